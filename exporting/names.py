r"""entities.tsv and relations.tsv: id, tab, name; UTF-8, no header.

So that each name stays on its line, in names a backslash is written `\\`, a tab `\t`, a line feed `\n` and a carriage
return `\r`.
"""

from collections.abc import Sequence
from pathlib import Path

from exporting.trained_model import TrainedModel
from graph.escapes import ESCAPES


def write_names(trained: TrainedModel, folder: Path) -> None:
    """Writes both files."""
    _write(folder / "entities.tsv", trained.graph.entity_names)
    _write(folder / "relations.tsv", trained.relation_names)


def _write(path: Path, names: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{number}\t{name.translate(ESCAPES)}\n" for number, name in enumerate(names))
