"""Train triples sorted by the shards of their head and tail, in a file that is made in blocks and mapped."""

import logging
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from graph.errors import InputError
from graph.growing import mapped
from graph.partition import EntityPlacement
from graph.shards import ShardStates, row_bounds
from graph.whole_file import whole_file

_BLOCK = 1 << 21
"""Triples that are sorted at a time."""
_WIDTH = 12
"""Bytes of a triple."""
_CHECKSUM = 4
"""Bytes of the CRC-32 of the triples, which is behind them."""
_log = logging.getLogger("advkge")


def sorted_by_shards(
    train: Int32[Tensor, "T 3"], placement: EntityPlacement, folder: Path, name: str
) -> tuple[Int32[Tensor, "T 3"], ShardStates]:
    """Train in the order of (shard of head, shard of tail), stable, and the states of epochs.

    Args:
        placement: has a plan of shards.
        name: of the file, without ending; an undamaged file of this name is taken as it is, so the name must tell the
            graph and the placement.

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
    ordered = _whole(file, len(train))
    if ordered is None:
        try:
            _write(train, placement, bounds, sizes, file)
        except OSError as error:
            size = len(train) * _WIDTH / 1e9
            raise InputError(
                f"placement.folder: {folder} can't take {size:.3g} GB of sorted triples: {error.strerror}"
            ) from error
        ordered = _mapped(file)
    return ordered, states


def _whole(file: Path, count: int) -> Int32[Tensor, "T 3"] | None:
    """The triples of a file; None, so that it is made again, if it is missing, too short or damaged."""
    if not file.is_file():
        return None
    if file.stat().st_size == count * _WIDTH + _CHECKSUM:
        with file.open("rb") as opened:
            opened.seek(-_CHECKSUM, os.SEEK_END)
            said = int.from_bytes(opened.read(), "little")
        ordered = _mapped(file)
        if _checksum(ordered) == said:
            return ordered
    _log.warning("placement.folder: %s is damaged: making it again", file)
    return None


def _mapped(file: Path) -> Int32[Tensor, "T 3"]:
    with file.open("rb") as opened:
        return mapped(opened.fileno(), np.dtype(np.int32))[: -_CHECKSUM // 4].view(-1, 3)


def _checksum(triples: Int32[Tensor, "T 3"]) -> int:
    total = 0
    for block in triples.split(_BLOCK):
        total = zlib.crc32(block.numpy().data, total)
    return total


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
    with whole_file(file) as opened:
        os.posix_fallocate(opened.fileno(), 0, len(train) * _WIDTH + _CHECKSUM)
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
        written = mapped(opened.fileno(), np.dtype(np.int32))[: -_CHECKSUM // 4]
        opened.seek(len(train) * _WIDTH)
        opened.write(_checksum(written.view(-1, 3)).to_bytes(_CHECKSUM, "little"))
        opened.flush()
        os.fsync(opened.fileno())
