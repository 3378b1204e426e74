"""Train triples sorted by the shards of their head and tail, in a file that is made in blocks and mapped."""

import os
import uuid
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from graph.errors import InputError
from graph.growing import mapped
from graph.partition import EntityPlacement
from graph.shards import ShardStates, row_bounds

_BLOCK = 1 << 21
"""Triples that are sorted at a time."""
_WIDTH = 12
"""Bytes of a triple."""


def sorted_by_shards(
    train: Int32[Tensor, "T 3"], placement: EntityPlacement, folder: Path, name: str
) -> tuple[Int32[Tensor, "T 3"], ShardStates]:
    """Train in the order of (shard of head, shard of tail), stable, and the states of epochs.

    Args:
        placement: has a plan of shards.
        name: of the file, without ending; a file of this name and the right length is taken as it is, so the name must
            tell the graph and the placement.

    Raises:
        InputError: the file can't be written.
    """
    assert placement.disk is not None
    count = placement.disk.shards
    bounds = row_bounds(len(placement.row_of_entity), count)[1:]
    sizes = torch.zeros(count * count, dtype=torch.int64)
    for block in train.split(_BLOCK):
        sizes += torch.bincount(_buckets(block, placement, bounds), minlength=count * count)
    states = ShardStates(sizes.view(count, count), placement.disk.resident, placement.entity_of_row)
    file = folder / f"{name}.int32"
    if not file.is_file() or file.stat().st_size != train.shape[0] * _WIDTH:
        try:
            _write(train, placement, bounds, sizes, file)
        except OSError as error:
            size = len(train) * _WIDTH / 1e9
            raise InputError(
                f"placement.folder: {folder} can't take {size:.1f} GB of sorted triples: {error.strerror}"
            ) from error
    with file.open("rb") as opened:
        return mapped(opened.fileno(), np.dtype(np.int32)).view(-1, 3), states


def _buckets(
    triples: Int32[Tensor, "K 3"], placement: EntityPlacement, bounds: Int64[Tensor, " S"]
) -> Int64[Tensor, " K"]:
    """The number of each triple's pair of shards."""
    head, tail = (
        torch.bucketize(placement.row_of_entity[triples[:, side].long()], bounds, right=True) for side in (0, 2)
    )
    return head * len(bounds) + tail


def _write(
    train: Int32[Tensor, "T 3"],
    placement: EntityPlacement,
    bounds: Int64[Tensor, " S"],
    sizes: Int64[Tensor, " B"],
    file: Path,
) -> None:
    """Writes the file atomically: each block's triples of a bucket go behind those of the blocks before."""
    place = sizes.cumsum(0) - sizes
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as opened:
            os.posix_fallocate(opened.fileno(), 0, max(len(train) * _WIDTH, 1))
            for block in train.split(_BLOCK):
                bucket = _buckets(block, placement, bounds)
                ordered = block[bucket.argsort(stable=True)].contiguous().numpy()
                counts = torch.bincount(bucket, minlength=len(sizes))
                first = 0
                for number in counts.nonzero()[:, 0].tolist():
                    stop = first + int(counts[number])
                    os.pwrite(opened.fileno(), ordered[first:stop].data, int(place[number]) * _WIDTH)
                    first = stop
                place += counts
            os.fsync(opened.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
