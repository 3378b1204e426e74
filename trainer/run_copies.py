"""Copies of a run folder on disks that are not shared: all of them hold the run as it stood at its last checkpoint."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import is_file, read_small_file
from trainer.disks import Disks, Parcel
from trainer.manifest import load_manifest
from trainer.pointer import read_pointer
from trainer.runtime import Runtime

_RECORDS = ("config.yaml", "overrides.yaml", "metrics.jsonl")
"""What a run needs to go on, beside checkpoints. Files of trackers stay with rank 0."""
_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class _Held:
    """A checkpoint that a disk has."""

    manifest: bytes
    files: list[str]


def newest(folder: Path, runtime: Runtime) -> int | None:
    """The first rank that sees the newest checkpoint of a run folder; None if no rank sees one. Collective.

    A machine that was away, or is new, has an earlier one or none.

    Raises:
        InputError: a pointer is damaged.
    """
    name, error = "", None
    try:
        if is_file(folder / "checkpoints" / "latest.json"):
            name = read_pointer(folder / "checkpoints" / "latest.json")
    except InputError as failure:
        error = str(failure)
    runtime.agree(error)
    names = runtime.gather(name)
    return names.index(max(names)) if max(names) else None


def bring_records(folder: Path, disks: Disks, *, rank: int = 0) -> None:
    """Brings the options and the metrics that a rank sees to all disks, if there are several. Collective."""
    if disks.are_several:
        names = disks.runtime.gather([name for name in _RECORDS if is_file(folder / name)])[rank]
        disks.bring(Parcel(folder / name, rank, folder / name) for name in names)


def bring_run(folder: Path, disks: Disks, rank: int) -> None:
    """Brings the run that a rank sees to the disks that lack some of it, if there are several. Collective.

    Raises:
        InputError: a file can't be read or written, or is damaged.
    """
    if not disks.are_several:
        return
    checkpoints = folder / "checkpoints"
    held, pointers, error = dict[str, _Held](), dict[str, str](), None
    try:
        pointers = {path.name: read_pointer(path) for path in checkpoints.glob("*.json")}
        held = {name: _held(checkpoints / name) for name in set(pointers.values()) if (checkpoints / name).is_dir()}
    except InputError as failure:
        # A damaged checkpoint of another disk is replaced.
        error = str(failure) if disks.runtime.rank == rank else None
    disks.runtime.agree(error)
    wanted, pointers = disks.runtime.gather((held, pointers))[rank]
    lacks = {name for name in wanted if held.get(name) != wanted[name]}
    for name in sorted(set[str]().union(*disks.runtime.gather(lacks))):
        _bring_checkpoint(checkpoints / name, [*wanted[name].files, "manifest.json"], disks, rank, name in lacks)
    bring_records(folder, disks, rank=rank)
    disks.bring(Parcel(checkpoints / name, rank, checkpoints / name) for name in sorted(pointers))
    if disks.is_owner:
        for path in checkpoints.glob("*.json"):
            if path.name not in pointers:
                path.unlink()
    disks.runtime.agree(None)


def _held(checkpoint: Path) -> _Held:
    files = sorted(load_manifest(checkpoint)["files"])
    whole = all(is_file(checkpoint / file) for file in files)
    return _Held(read_small_file(checkpoint / "manifest.json", most_bytes=_MOST_BYTES), files if whole else [])


def _bring_checkpoint(checkpoint: Path, files: list[str], disks: Disks, rank: int, lacks: bool) -> None:
    """Brings a checkpoint; it is there as a whole or not at all."""
    temporary = checkpoint.with_name(f"{checkpoint.name}.tmp")
    if lacks and disks.is_owner:
        shutil.rmtree(temporary, ignore_errors=True)
    disks.bring([Parcel(checkpoint / file, rank, temporary / file) for file in files], wanted=lacks)
    error = None
    if lacks and disks.is_owner:
        try:
            shutil.rmtree(checkpoint, ignore_errors=True)
            temporary.rename(checkpoint)
        except OSError as failure:
            error = f"{checkpoint} can't be written: {failure.strerror}"
    disks.runtime.agree(error)
