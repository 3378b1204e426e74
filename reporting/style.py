"""How all plots look: colours, line styles and markers, and SVG files that read well on light and on dark pages."""

import io
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PALETTE = ("#5590f2", "#cc8000", "#7440f0", "#0a8f86", "#b32a9a", "#a8704f")
"""Told apart with each kind of colour blindness; contrast of 3 or more on white and on a dark page; no red or green."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_OUTLINES = {
    "o": "M11 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "s": "M11.5 2.5h7v7h-7Z",
    "^": "M15 1.5L19.5 9.5H10.5Z",
    "D": "M15 1L20 6L15 11L10 6Z",
    "v": "M15 10.5L19.5 2.5H10.5Z",
    "P": "M13.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3Z",
    "X": "M12.5 1.5L15 4L17.5 1.5L19.5 3.5L17 6L19.5 8.5L17.5 10.5L15 8L12.5 10.5L10.5 8.5L13 6L10.5 3.5Z",
}
_DASHES = ((), (5.0, 1.8), (1.4, 1.4), (6.0, 1.6, 1.4, 1.6))
TEXT, GRID = "#747b83", "#8f979f40"
"""Greys that read on both grounds. A page with an SVG inside gives its text a grey of its own (`reporting/page.py`)."""
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.prop_cycle": "cycler('color', ['#5590f2'])",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "figure.labelsize": 10,
    "font.size": 9,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and selected
    "svg.hashsalt": "advkge",  # the same figures give the same bytes
    "text.color": TEXT,
    "text.parse_math": False,  # a name may have a $
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}
_LONGEST_NAME = 40
_LETTERS_AN_INCH = 11
"""Of a row of a legend."""


@dataclass(frozen=True)
class Look:
    """How one of several series is drawn, in every plot and beside its name in a table."""

    colour: str
    marker: str
    dashes: tuple[float, ...]
    """Lengths of lines and gaps in points; empty for a solid line."""

    @classmethod
    def of(cls, number: int) -> "Look":
        """The look of series `number`, from 0. The first 42 differ in colour or marker."""
        return cls(
            PALETTE[number % len(PALETTE)],
            MARKERS[number % len(MARKERS)],
            _DASHES[number // len(PALETTE) % len(_DASHES)],
        )

    @property
    def outline(self) -> str:
        """The marker as a path of an SVG that is 30 wide and 12 high, in its middle."""
        return _OUTLINES[self.marker]

    @property
    def line(self) -> dict[str, Any]:
        """Options of `plot` for a line with markers."""
        style = (0, self.dashes) if self.dashes else "-"
        return {"color": self.colour, "linestyle": style, **self.point, "markersize": 4}

    @property
    def point(self) -> dict[str, Any]:
        """Options of `plot` for a marker. Markers are hollow, so that one behind another is seen."""
        return {"marker": self.marker, "markeredgecolor": self.colour, "markerfacecolor": "none"}


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each distinct name, in their order."""
    return {name: Look.of(number) for number, name in enumerate(dict.fromkeys(names))}


def shown_name(name: str) -> str:
    """A name as plots show it: on one line, shortened, without control characters, which no SVG may hold."""
    kept = "".join("\ufffd" if unicodedata.category(each)[0] == "C" else each for each in " ".join(name.split()))
    kept = kept if len(kept) <= _LONGEST_NAME else f"{kept[: _LONGEST_NAME - 1]}…"
    return f"\u200a{kept}" if kept.startswith("_") else kept  # a legend leaves out names that begin with _


@contextmanager
def drawing() -> Iterator[Any]:
    """Gives `matplotlib.pyplot` in this style, for files and not for a screen."""
    # Imported here, because the import takes a second that a command with a wrong option need not wait.
    import matplotlib as mpl

    mpl.use("Agg")
    # It would say at level info that an axis has words.
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
    import matplotlib.pyplot as plt

    style: Any = _STYLE
    with plt.rc_context(style), warnings.catch_warnings():
        # Text is drawn by the browser, which has more fonts.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield plt


def legend_below(figure: Any, axes: Iterable[Any]) -> None:
    """Puts one legend for the axes of a figure below them, where it hides nothing, and makes room for it."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if not handles:
        return
    width, height = figure.get_size_inches()
    columns = max(1, min(len(handles), int(_LETTERS_AN_INCH * width) // (6 + max(map(len, handles)))))
    figure.set_size_inches(width, height + 0.19 * -(-len(handles) // columns))
    place = {"loc": "outside lower center", "ncols": columns, "handlelength": 3, "columnspacing": 1.2}
    figure.legend(handles.values(), handles.keys(), **place)


def as_png(figure: Any) -> bytes:
    """A figure as a PNG file without a ground of its own; closes it."""
    import matplotlib.pyplot as plt

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return data.getvalue()


def as_svg(figure: Any) -> str:
    """A figure as the text of an SVG file; closes it. The same figure gives the same text."""
    import matplotlib.pyplot as plt

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    plt.close(figure)
    return text.getvalue()
