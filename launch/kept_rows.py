"""What entity rows are kept in and computed with, and what does not go together with rows in bfloat16."""

from typing import Any

import torch
from omegaconf import DictConfig

from embedding.rounding import Rounding
from graph.errors import InputError
from graph.shards import REPLICATED
from launch.parts import learns_vectors

_HALF = "bfloat16"
_TYPES = ("float32", "float64", _HALF)


def row_types(config: DictConfig) -> dict[str, Any]:
    """`dtype` and `rounding` of a `ModelSite`.

    Args:
        config: the config of a run; that of an earlier version has no `rounding`.
    Raises:
        InputError: there is no such type, or no such way to round.
    """
    dtype, rounding = config.dtype, config.get("rounding", Rounding.STOCHASTIC)
    if dtype not in _TYPES:
        raise InputError(f"dtype must be one of {', '.join(_TYPES)}, got {dtype!r}")
    if rounding not in [*Rounding]:
        raise InputError(f"rounding must be one of {', '.join(Rounding)}, got {rounding!r}")
    if dtype == _HALF:
        return {"dtype": torch.float32, "rounding": Rounding(rounding)}
    return {"dtype": getattr(torch, dtype), "rounding": None}


def refuse_with_bfloat16(config: DictConfig) -> None:
    """Checks the options of a run before its graph is read. Optimisers check themselves.

    Raises:
        InputError: rows are kept in bfloat16, and an option has a second table of rows, or rows that are no vectors.
    """
    if config.dtype != _HALF:
        return
    if config.get("encoder") is not None:
        raise InputError(
            f"dtype={_HALF}: encoder={_name(config.encoder)} makes a second table of rows, in float32; take "
            "dtype=float32, or leave the encoder out"
        )
    if config.average is not None:
        raise InputError(
            f"dtype={_HALF}: average={_name(config.average)} is a second table, and its small steps would be lost in "
            f"{_HALF}; take dtype=float32, or leave the average out"
        )
    if config.placement.get("storage") == REPLICATED:
        raise InputError(
            f"dtype={_HALF}: placement.storage=replicated copies the table to each rank, for tables that fit; take "
            "placement.storage=memory or disk, or dtype=float32"
        )
    if not learns_vectors(config.discriminator):
        raise InputError(
            f"dtype={_HALF}: discriminator={_name(config.discriminator.scoring)} has no vectors of entities; take "
            "dtype=float32"
        )


def _name(node: DictConfig) -> str:
    return str(node._target_).split(".")[-2]
