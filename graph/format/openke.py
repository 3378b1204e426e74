"""OpenKE's folders (https://github.com/thunlp/OpenKE): train2id.txt, valid2id.txt and test2id.txt with triples of ids.

The first line is the number of triples. The others have the ids of head, tail and relation, separated by blanks. The
names are in entity2id.txt and relation2id.txt.
"""

from collections.abc import Sequence
from pathlib import Path

from graph.format.layout import Layout
from graph.format.lines import lines_of
from graph.format.source import Ending, Format, Pieces, ReadOptions
from graph.format.text import read_text
from graph.format.text_check import count_of, decode, shown
from graph.format.wrong_lines import LineFault


def _patterns(split: str) -> list[str]:
    return [f"{split}2id.txt", f"{split}2id.txt.gz"]


def _read(paths: Sequence[Path], options: ReadOptions) -> Pieces:
    [path] = paths
    rows, pieces = 0, read_text(path, Layout(options.columns or "htr", " ", first_lines=1))
    for piece in pieces:
        rows += len(piece)
        yield piece
    first = decode(path, 1, next(lines_of(path)))
    count = count_of(first)
    if count is None:
        raise LineFault(path, 1, f"expected the number of triples, got {shown(first)}")
    if count != rows:
        raise LineFault(path, 1, f"it says {count} triples, but {rows} follow")
    return Ending()


OPENKE = Format(
    "openke",
    "OpenKE",
    _patterns,
    _read,
    dictionaries=[("entity2id.txt", "relation2id.txt")],
    by_id=True,
    has_header=False,
)
