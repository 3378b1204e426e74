"""Tables of pages: their cells, how they are sorted, and how good values stand out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from reporting.style import Look


@dataclass(frozen=True)
class Head:
    """The head of a column."""

    title: str
    meaning: str = ""
    """Shown when the pointer rests on the head."""
    is_text: bool = False
    """Text is aligned to the left and sorted by letters; numbers to the right, by value."""
    group: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what its column is sorted by."""

    text: str
    value: int | float | str | None = None
    """None stays last, however the column is sorted."""
    spread: str = ""
    """A small second line."""
    strength: float = 0.0
    """Above 0: shaded as a good value, up to 1; below 0: as a poor one."""
    is_best: bool = False
    look: Look | None = None
    """The look of the row's series in the plots."""
    bar: float = 0.0
    """From 0 to 1: the length of a bar beside the text."""

    @classmethod
    def of_text(cls, text: str) -> "Cell":
        """A cell with a text that it is also sorted by."""
        return cls(text, text)

    @classmethod
    def of_number(cls, value: float | None, digits: int = 3) -> "Cell":
        """A cell with a rounded number; None is shown as a dash."""
        return cls("-") if value is None else cls(f"{value:.{digits}f}", value)

    @classmethod
    def of_count(cls, count: int) -> "Cell":
        """A cell with a whole number."""
        return cls(f"{count:,}", count)


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort."""

    name: str
    """For those who hear the page."""
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""
    is_wide: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Each group's name and number of columns; empty if no column has a group."""
        if not any(head.group for head in self.heads):
            return []
        return [(name, len(list(members))) for name, members in groupby(self.heads, key=lambda head: head.group)]

    def classes(self, column: int, cell: Cell) -> str:
        """The CSS classes of a cell."""
        head = self.heads[column]
        begins_group = column > 0 and head.group != self.heads[column - 1].group
        chosen = (
            ("first", column == 0),
            ("text", head.is_text),
            ("divider", begins_group),
            ("best", cell.is_best),
            ("good", cell.strength > 0),
            ("poor", cell.strength < 0),
        )
        return " ".join(name for name, holds in chosen if holds)
