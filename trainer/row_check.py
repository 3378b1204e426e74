"""Checks the content of a checkpoint beyond checksums: each entity has one row, tensors fit, and numbers are finite."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from graph.errors import InputError
from trainer.checkpoint_files import open_tensors, shown


def check_entities(checkpoint: Path, files: Sequence[str], expected: int) -> None:
    """Raises InputError unless the files hold each entity 0 .. expected - 1 exactly once.

    It needs one byte of memory for each entity. Every rank checks all files, so all ranks raise the same error.
    """
    found = _count_entities(checkpoint, files)
    if found != expected:
        raise InputError(
            f"{checkpoint} holds {found} entities, this run has {expected}: it was made with another graph"
        )
    seen = torch.zeros(expected, dtype=torch.bool)
    found = 0
    for file in files:
        with open_tensors(checkpoint / file) as saved:
            entity = saved.get_tensor("entity")
        outside = entity[(entity < 0) | (entity >= expected)]
        if len(outside):
            raise InputError(
                f"{checkpoint / file}: 'entity' must hold ids from 0 to {expected - 1}, got {int(outside[0])}"
            )
        seen[entity] = True
        found += len(entity)
        if int(seen.sum()) != found:
            raise InputError(f"{checkpoint / file}: 'entity' must name each entity once, but names some twice")


def _count_entities(checkpoint: Path, files: Sequence[str]) -> int:
    found = 0
    for file in files:
        with open_tensors(checkpoint / file) as saved:
            if "entity" not in saved.keys():  # noqa: SIM118 (not a dict)
                raise InputError(f"{checkpoint / file} holds no 'entity', the ids of its rows")
            ids = saved.get_slice("entity")
            dtype, shape = ids.get_dtype(), ids.get_shape()
        if dtype != "I64" or len(shape) != 1:
            raise InputError(f"{checkpoint / file}: 'entity' must be a list of I64 ids, got {dtype} of shape {shape}")
        found += shape[0]
    return found


def check_finite(checkpoint: Path, key: str, value: Tensor) -> None:
    """Raises InputError if a tensor holds nan or an infinity."""
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise InputError(f"{checkpoint}: {key!r} must hold finite numbers, but has nan or an infinity")


def fitting(
    checkpoint: Path, key: str, value: Tensor | None, own: Tensor, shape: tuple[int, ...] | torch.Size
) -> Tensor:
    """The saved tensor; raises InputError if it is missing or has another shape or kind of number than `own`.

    Args:
        key: its name in the checkpoint's files, for errors.
        own: the tensor that it is to be copied to.
        shape: the shape that it must have.
    """
    if value is None:
        raise InputError(f"{checkpoint} holds no {key!r}: it was made with another model or optimizer")
    if value.shape != torch.Size(shape):
        raise InputError(
            f"{checkpoint}: {key!r} has shape {shown(list(value.shape))}, this run's has {list(shape)}: "
            "it was made with another model, dimension or graph"
        )
    if value.is_floating_point() != own.is_floating_point():
        raise InputError(f"{checkpoint}: {key!r} is of {value.dtype}, this run's is of {own.dtype}")
    return value
