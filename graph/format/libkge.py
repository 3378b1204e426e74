"""LibKGE's folders (https://github.com/uma-pi1/kge): train.del, valid.del, test.del with ids separated by tabs.

The names are in entity_ids.del and relation_ids.del. dataset.yaml is not needed and not read.
"""

from collections.abc import Sequence
from pathlib import Path

from graph.format.layout import Layout
from graph.format.source import Format, Pieces, ReadOptions
from graph.format.text import read_text


def _patterns(split: str) -> list[str]:
    return [f"{split}.del", f"{split}.del.gz"]


def _read(paths: Sequence[Path], options: ReadOptions) -> Pieces:
    [path] = paths
    return (yield from read_text(path, Layout(options.columns or "hrt", "\t")))


LIBKGE = Format(
    "libkge",
    "LibKGE",
    _patterns,
    _read,
    dictionaries=[("entity_ids.del", "relation_ids.del")],
    by_id=True,
    has_header=False,
)
