"""Saves and loads keyed rows of samplers: each rank writes its own rows and reads those of its keys from any file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from graph.errors import InputError
from trainer.checkpoint_files import open_tensors


def keyed_tensors(keyed: Mapping[str, KeyedRows]) -> dict[str, Tensor]:
    """Tensors to save: this rank's rows, by place, and the place of the first."""
    tensors: dict[str, Tensor] = {}
    for name, rows in keyed.items():
        tensors[f"keyed/{name}"] = rows.row
        tensors[f"keyed/{name}/first_place"] = torch.tensor([rows.first])
    return tensors


def load_keyed(checkpoint: Path, files: Iterable[str], keyed: Mapping[str, KeyedRows]) -> None:
    """Loads the rows of this rank's keys in place, from the files that have them.

    Raises:
        InputError: the files do not have each key exactly once, or the rows have another type or width, or hold an id
            that there is not, or were saved when keys had other places.
    """
    for name, rows in keyed.items():
        bounds = [_fill(checkpoint, checkpoint / file, name, rows) for file in files]
        end = 0
        for first, last in sorted(bounds):
            end = last if first == end else -1
        if end != rows.num_keys:
            raise InputError(
                f"{checkpoint}: 'keyed/{name}' does not hold each of this run's {rows.num_keys} keys once: it was made "
                "with another graph"
            )


def _fill(checkpoint: Path, file: Path, name: str, rows: KeyedRows) -> tuple[int, int]:
    """Loads this rank's rows that are in a file; returns the file's first place and the place after its last."""
    with open_tensors(file) as saved:
        if f"keyed/{name}" not in saved.keys():  # noqa: SIM118 (not a dict)
            raise InputError(f"{checkpoint} holds no 'keyed/{name}': it was made with another generator")
        part = saved.get_slice(f"keyed/{name}")
        count, width = part.get_shape()
        if part.get_dtype() != "I32":
            raise InputError(f"{file}: 'keyed/{name}' must be of type I32, got {part.get_dtype()}")
        if width != rows.row.shape[1]:
            raise InputError(
                f"{checkpoint}: 'keyed/{name}' has rows of {width} numbers, this run's have {rows.row.shape[1]}: it "
                "was made with other options of the generator"
            )
        if f"keyed/{name}/first_place" not in saved.keys():  # noqa: SIM118
            raise InputError(
                f"{checkpoint} holds 'keyed/{name}' in the order of an earlier version of this project: begin the run "
                "again, or resume it with that version"
            )
        first = int(saved.get_tensor(f"keyed/{name}/first_place"))
        begin, end = max(first, rows.first), min(first + count, rows.first + len(rows.row))
        if begin < end:
            loaded = part[begin - first : end - first]
            _check_ids(file, name, loaded, rows.num_ids)
            rows.row[begin - rows.first : end - rows.first] = loaded.to(rows.row.device)
    return first, first + count


def _check_ids(file: Path, name: str, loaded: Tensor, num_ids: int | None) -> None:
    if num_ids is None:
        return
    outside = loaded[(loaded < 0) | (loaded >= num_ids)]
    if len(outside):
        raise InputError(f"{file}: 'keyed/{name}' must hold ids from 0 to {num_ids - 1}, got {int(outside[0])}")
