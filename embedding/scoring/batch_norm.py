"""Batch norm (Ioffe and Szegedy, Batch normalization, ICML 2015), over the rows of all ranks."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from embedding.moments import Moments

EPS = 1e-5
_MOMENTUM = 0.1
_FEWEST = 2
"""Rows from which there is a variance. torch refuses fewer."""


class BatchNorm(nn.Module):
    """scale * (x - mean) / sqrt(variance + 1e-5) + shift, for each of C channels.

    In a training step, mean and variance are those of all ranks' rows, such as the global batch or all entities, and
    differentiable. Elsewhere they are running statistics: means over the last training steps, of which each new one has
    weight .1. A step of only one row also uses the running statistics, and leaves them as they are, because a single
    value has no variance.

    Args:
        scale, shift: the learned parameters.
    """

    running_mean: Float64[Tensor, " C"]
    running_variance: Float64[Tensor, " C"]

    def __init__(self, scale: nn.Parameter, shift: nn.Parameter) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        self.register_buffer("running_mean", torch.zeros_like(scale))
        self.register_buffer("running_variance", torch.ones_like(scale))
        self._seen: tuple[Tensor, Tensor] | None = None

    def reset(self) -> None:
        """Sets the running statistics to mean 0 and variance 1."""
        self.running_mean.zero_()
        self.running_variance.fill_(1)
        self._seen = None

    def forward(
        self, value: Float[Tensor, "B P C"], moments: Callable[[Tensor], Moments] | None
    ) -> Float[Tensor, "B P C"]:
        """Normalises each channel. In a training step this is Collective, and so is its backward.

        The running statistics move only when `end_step` is called: a step may end in an error before anything learned.

        Args:
            moments: of a training step: makes mean and variance of such values over all ranks; None: outside of one.
        """
        factor, term = self.factor_and_term(None if moments is None else moments(value))
        return cast(Tensor, _Channelwise.apply(value, factor, term))

    def factor_and_term(self, seen: Moments | None) -> tuple[Float64[Tensor, " C"], Float64[Tensor, " C"]]:
        """The norm is value * factor + term. Differentiable; running statistics move as with `forward`.

        Args:
            seen: mean and variance of the values of a training step; None: outside of one.
        """
        mean, variance = self.running_mean, self.running_variance
        if seen is not None and seen.rows >= _FEWEST:
            mean, variance = seen.mean, seen.variance
            unbiased = variance.detach() * (seen.values / (seen.values - 1))
            self._seen = mean.detach(), unbiased
        factor = self.scale / (variance + EPS).sqrt()
        return factor, self.shift - mean * factor

    @torch.no_grad()
    def end_step(self, good: Bool[Tensor, ""] | None = None) -> None:
        """Moves the running statistics by those of the last training step, unless `good` is False; None: True."""
        if self._seen is not None:
            for running, seen in zip((self.running_mean, self.running_variance), self._seen, strict=True):
                running.lerp_(seen if good is None else torch.where(good, seen, running), _MOMENTUM)
            self._seen = None


class _Channelwise(torch.autograd.Function):
    """value * factor + term, whose gradients by factor and term are summed in float64."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, factor: Tensor, term: Tensor) -> Tensor:
        ctx.save_for_backward(value, factor)
        # Not addcmul, which may round a number otherwise at the end of a tensor: ranks cut batches in other places.
        return value.mul(factor.to(value.dtype)).add_(term.to(value.dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, factor = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        given = gradient[0]
        by_factor, by_term = (each.flatten(0, 1).sum(0, dtype=torch.float64) for each in (given * value, given))
        return given * factor.to(given.dtype), by_factor, by_term
