"""Where rows of vectors start: each number is a function of a key and a counter alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.counter_random import random_uniform
from graph.errors import InputError

KINDS = ("uniform", "normal", "xavier_uniform", "xavier_normal")


@dataclass(frozen=True)
class InitialValues:
    """A distribution around 0, with a spread for each number of a row.

    Args:
        normal: Gaussian with standard deviation `spread`; else uniform in +- `spread`.
    """

    normal: bool
    spread: Float64[Tensor, " W"]

    @classmethod
    def of(
        cls, kind: str, scale: float | None, own: Float64[Tensor, " W"], num_rows: int, *, key: str
    ) -> "InitialValues":
        """The distribution that options ask for.

        Args:
            kind: "uniform", "normal", or Xavier's (Glorot and Bengio, Understanding the difficulty of training deep
                feedforward neural networks, AISTATS 2010), whose spread follows from the number of rows and columns.
            scale: the spread; of Xavier's a factor. None: `own`, or a factor of 1.
            own: half the width of the uniform distribution that the scoring function would start from.
            key: of the options, for errors.
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
        """The values of rows, each number with its own counter."""
        centred = 2 * random_uniform(key, counter) - 1
        return (2**0.5 * torch.erfinv(centred) if self.normal else centred) * self.spread.to(counter.device)
