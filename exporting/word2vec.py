"""Gensim's and word2vec's text format: a header with both sizes, then a line for each name: name, space, numbers."""

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from exporting.npy import Shapes, write_shared
from exporting.text_rows import text_lines
from exporting.trained_model import TrainedModel, split_rows
from graph.errors import InputError

_SPACE = re.compile(r"\s")


def write(trained: TrainedModel, folder: Path) -> Shapes:
    """Writes a .txt for each part of the rows, and the shared parameters; returns shapes by file.

    White space would end a name, so each such character is written "_".

    Raises:
        InputError: two names would become equal.
    """
    entities, relations = trained.graph.entity_names, trained.relation_names
    _check_distinct("entity", entities)
    _check_distinct("relation", relations)
    shapes = {f"{part}.txt": [len(entities), width] for part, width in trained.entity_parts.items()}
    with ExitStack() as opened:
        files = [opened.enter_context((folder / name).open("wb")) for name in shapes]
        for file, shape in zip(files, shapes.values(), strict=True):
            _write_header(file, shape)
        for first, rows in trained.entity_blocks():
            names = list(_as_words(entities[first : first + len(rows)]))
            for file, part in zip(files, split_rows(rows, trained.entity_parts).values(), strict=True):
                _write_lines(file, names, part)
    for part, rows in trained.relation_parts.items():
        with (folder / f"{part}.txt").open("wb") as file:
            _write_header(file, list(rows.shape))
            _write_lines(file, _as_words(relations), rows)
        shapes[f"{part}.txt"] = list(rows.shape)
    return shapes | write_shared(trained, folder)


def _check_distinct(what: str, names: Sequence[str]) -> None:
    """Raises InputError if two names give one word. Only names with white space are kept in memory."""
    changed: dict[str, str] = {}
    for name, word in zip(names, _as_words(names), strict=True):
        if word != name:
            _refuse_same(what, changed.get(word), name)
            changed[word] = name
    for name in names if changed else ():
        _refuse_same(what, changed.get(name), name)


def _refuse_same(what: str, one: str | None, other: str) -> None:
    if one is not None:
        raise InputError(
            f"format=word2vec: two {what} names must differ in more than white space, which is written '_', "
            f"got {one!r} and {other!r}"
        )


def _as_words(names: Iterable[str]) -> Iterable[str]:
    return (_SPACE.sub("_", name) for name in names)


def _write_header(file: BinaryIO, shape: Sequence[int]) -> None:
    file.write("{} {}\n".format(*shape).encode())


def _write_lines(file: BinaryIO, names: Iterable[str], rows: Tensor) -> None:
    lines = zip(names, text_lines(rows, " "), strict=True)
    file.writelines(b"%s %s\n" % (name.encode(), line) for name, line in lines)
