"""What a scoring function that is a network needs of a training step: statistics of the global batch, and dropout."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from embedding.dropout import RowDropout
from embedding.moments import Moments, moments_of, moments_of_maps
from graph.batch import Batch
from graph.counter_random import combine, paired_at_least, stream


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

        See `moments_of`. Each positive counts once, whatever its weight in the loss; the padding of a chunk does not
        count.
        """
        return moments_of(value, self._real, self.world_size)

    def moments_of_maps(self, patches: Float[Tensor, "B K P"], filters: Float64[Tensor, "K_minus_1 F"]) -> Moments:
        """The same of filters . patch, as `moments_of_maps` finds them. Collective."""
        return moments_of_maps(patches, filters, self._real, self.world_size)

    @property
    def _real(self) -> Float64[Tensor, " B"]:
        return (self.batch.weight > 0).double()

    def drop_entity(self, rows: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Dropout of what was made of the entities that are not corrupted; see `RowDropout`."""
        kept = self.dropout.kept_of_entities(self.batch, rows.shape[1])
        return rows if kept is None else kept.of(rows)

    def drop_relation(self, rows: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Dropout of what was made of the relations."""
        kept = self.dropout.kept_of_relations(self.batch, rows.shape[1])
        return rows if kept is None else kept.of(rows)

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
        return paired_at_least(key, self._place()[rows], width, probability)

    def _place(self) -> Int64[Tensor, " B"]:
        """A number for each positive, from its chunk and its place in the chunk."""
        place = torch.arange(self.batch.chunk_size, device=self.batch.chunk.device)
        return combine(self.batch.chunk[:, None], place).flatten()
