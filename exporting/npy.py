"""NumPy arrays: one .npy for each part of the rows, rows in the order of ids, and one for each shared parameter."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from exporting.names import write_names
from exporting.trained_model import TrainedModel, split_rows

Shapes = dict[str, list[int]]
"""The shape of each file's array."""


def write(trained: TrainedModel, folder: Path) -> Shapes:
    """Writes the arrays, entities.tsv and relations.tsv into an empty folder; returns the arrays' shapes by file."""
    shapes = _write_entities(trained, folder) | _save(trained.relation_parts, folder) | write_shared(trained, folder)
    write_names(trained, folder)
    return shapes


def write_shared(trained: TrainedModel, folder: Path) -> Shapes:
    """Writes the parameters that all triples share, which are tables in no format; returns their shapes by file."""
    return _save(trained.shared, folder)


def _write_entities(trained: TrainedModel, folder: Path) -> Shapes:
    shapes = {f"{part}.npy": [trained.graph.num_entities, width] for part, width in trained.entity_parts.items()}
    dtype = np.dtype(str(trained.dtype).removeprefix("torch."))
    with ExitStack() as opened:
        files = [opened.enter_context((folder / name).open("wb")) for name in shapes]
        for file, shape in zip(files, shapes.values(), strict=True):
            _write_header(file, dtype, tuple(shape))
        for _, rows in trained.entity_blocks():
            for file, part in zip(files, split_rows(rows, trained.entity_parts).values(), strict=True):
                file.write(part.contiguous().numpy().data)
    return shapes


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """As np.save does. A file mapped by NumPy would do too, but if the disk gets full, it kills the process."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _save(arrays: Mapping[str, Tensor], folder: Path) -> Shapes:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.contiguous().numpy())
    return {f"{name}.npy": list(array.shape) for name, array in arrays.items()}
