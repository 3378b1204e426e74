"""What a scoring function that is a network needs of a training step: statistics of the global batch, and dropout."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.dropout import RowDropout
from embedding.exchange import add_over_ranks
from graph.batch import Batch
from graph.counter_random import combine, paired_uniform, stream


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel over the global batch, differentiable; equal on all ranks."""

    mean: Float64[Tensor, " C"]
    variance: Float64[Tensor, " C"]
    """Divided by the number of values, not by one less."""
    positives: int
    """The number of positives in the global batch."""
    values: int
    """The number of values of each channel."""


@dataclass(frozen=True)
class TrainingStep:
    """A step that trains a model, as its scoring function sees it: the same on any number of ranks.

    Args:
        batch: this rank's B positives.
        dropout: the model's dropout of query rows.
        world_size: the number of ranks.
    """

    batch: Batch
    dropout: RowDropout
    world_size: int

    def moments(self, value: Float[Tensor, "B P C"]) -> Moments:
        """Mean and variance of each channel over all positives of the global batch and P places. Collective.

        Forward adds over ranks in float64; backward adds the gradients of all ranks, so it is collective too, and every
        rank must use the results in the same way. Each positive counts once, whatever its weight in the loss; the
        padding of a chunk does not count.
        """
        real = (self.batch.weight > 0).double()
        mean, variance, positives = cast(tuple[Tensor, ...], _Moments.apply(value, real, self.world_size))
        return Moments(mean, variance, int(positives), int(positives) * value.shape[1])

    def drop_entity(self, rows: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Dropout of what was made of the entities that are not corrupted; see `RowDropout`."""
        scale = self.dropout.entity_scale(self.batch, rows.shape[1], rows.dtype)
        return rows if scale is None else rows * scale

    def drop_relation(self, rows: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Dropout of what was made of the relations."""
        scale = self.dropout.relation_scale(self.batch, rows.shape[1], rows.dtype)
        return rows if scale is None else rows * scale

    def drop(self, name: str, probability: float, value: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Dropout of a value inside the scoring function; `name` is the key of its random numbers."""
        return value if probability == 0 else value * self.scale(name, probability, value.shape[1], value.dtype)

    def scale(self, name: str, probability: float, width: int, dtype: torch.dtype) -> Float[Tensor, "B W"]:
        """The factors of dropout: 0 with this probability, else 1 / (1 - probability)."""
        return self.kept(name, probability, width).to(dtype) / (1 - probability)

    def kept(self, name: str, probability: float, width: int, rows: slice = slice(None)) -> Bool[Tensor, "b W"]:
        """True where dropout keeps a number, for these rows of the batch: a function of (seed, epoch, chunk, place)."""
        batch = self.batch
        key = stream(f"{self.dropout.owner} {name} dropout", batch.seed, batch.epoch)
        return paired_uniform(key, self._place()[rows], width) >= probability

    def _place(self) -> Int64[Tensor, " B"]:
        """A number for each positive, from its chunk and its place in the chunk."""
        place = torch.arange(self.batch.chunk_size, device=self.batch.chunk.device)
        return combine(self.batch.chunk[:, None], place).flatten()


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, real: Tensor, world_size: int) -> tuple[Tensor, Tensor, Tensor]:
        places, channels = value.shape[1:]
        sums = [real @ each.sum(1, dtype=torch.float64) for each in (value, value.square())]
        total = _added(torch.cat([*sums, real.sum()[None]]), world_size)
        positives = total[-1]
        mean, square = (total[:-1] / (positives * places).clamp(min=1)).split(channels)
        ctx.save_for_backward(value, real, mean, positives)
        ctx.world_size = world_size  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(positives)
        return mean, (square - mean.square()).clamp(min=0), positives

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor, None, None]:
        value, real, mean, positives = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        world_size: int = ctx.world_size  # pyright: ignore[reportAttributeAccessIssue]
        by_mean, by_variance = _added(torch.cat(given[:2]), world_size).chunk(2)
        share = 2 * by_variance / (positives * value.shape[1])
        constant = by_mean / (positives * value.shape[1]) - share * mean
        by_value = value.mul(share.to(value.dtype)).add_(constant.to(value.dtype))
        return by_value * real.to(value.dtype)[:, None, None], None, None


def _added(value: Float64[Tensor, " K"], world_size: int) -> Float64[Tensor, " K"]:
    return add_over_ranks(value) if world_size > 1 else value
