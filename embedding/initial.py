"""Initial values of rows. Each number is a function of a key and a counter alone, so it is the same on any rank."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.counter_random import random_uniform
from graph.errors import InputError

KINDS = ("uniform", "normal", "xavier_uniform", "xavier_normal")


@dataclass(frozen=True)
class InitialValues:
    """A distribution with mean 0.

    Args:
        normal: True: Gaussian with standard deviation `spread`. False: uniform in [-spread, spread].
        spread: one number for each column of the rows.
    """

    normal: bool
    spread: Float64[Tensor, " W"]

    @classmethod
    def of(
        cls, kind: str, scale: float | None, own: Float64[Tensor, " W"], num_rows: int, *, key: str
    ) -> "InitialValues":
        """The distribution that the options init and init_scale describe.

        Args:
            kind: "uniform", "normal", "xavier_uniform" or "xavier_normal". Xavier's standard deviation is
                sqrt(2 / (num_rows + W)) (Glorot and Bengio, Understanding the difficulty of training deep feedforward
                neural networks, AISTATS 2010).
            scale: half the width of the uniform distribution, or the standard deviation of the normal one. Xavier's is
                multiplied by it. None: the variance that `own` gives, and a factor of 1 for Xavier's.
            own: the scoring function's default: half the width of a uniform distribution, for each column.
            num_rows: rows in the table.
            key: config key of the model, for errors.
        Raises:
            InputError: an unknown kind, or a scale that is not positive.
        """
        if kind not in KINDS:
            raise InputError(f"{key}.init must be one of {', '.join(KINDS)}, got {kind!r}")
        if scale is not None and not 0 < scale < float("inf"):
            raise InputError(f"{key}.init_scale must be a positive number or null, got {scale}")
        if kind.startswith("xavier"):
            spread = (2 / (num_rows + len(own))) ** 0.5 * (1.0 if scale is None else scale)
            return cls(kind == "xavier_normal", torch.full_like(own, spread if "normal" in kind else 3**0.5 * spread))
        if scale is not None:
            return cls(kind == "normal", torch.full_like(own, scale))
        return cls(kind == "normal", own / 3**0.5 if kind == "normal" else own)  # the same variance

    def __call__(self, key: int, counter: Int64[Tensor, "K W"]) -> Float64[Tensor, "K W"]:
        """The values at these counters; `key` is the random stream."""
        centred = 2 * random_uniform(key, counter) - 1
        return (2**0.5 * torch.erfinv(centred) if self.normal else centred) * self.spread.to(counter.device)
