"""HTML pages that fetch nothing: styles, plots and a script that sorts tables are inside. All names are escaped."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from graph.errors import InputError
from reporting.files import write_text
from reporting.provenance import describe
from reporting.style import TEXT

_TEMPLATES = Path(__file__).parent / "templates"
_IDS = re.compile(r'(\sid="|xlink:href="#|url\(#)')


@dataclass(frozen=True)
class Heading:
    """The command that wrote a page, its machine, and its time."""

    command: str
    machine: Mapping[str, str | int]
    written: str

    @classmethod
    def of(cls, command: str) -> "Heading":
        """A heading with this machine and the present time."""
        return cls(command, describe(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


@dataclass(frozen=True)
class Plot:
    """A plot, for a page and for a file."""

    name: str
    svg: str
    caption: str
    alt: str
    """What the plot shows, in words, for those who can't see it."""
    note: str = ""
    """What a reader should know, such as what was left out."""

    def inline(self) -> Markup:
        """The SVG as part of a page, in the page's own grey."""
        return _inline(self.svg, self.name, self.alt)

    def write(self, folder: Path) -> None:
        """Writes the file `name`.svg; raises InputError if that is impossible."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} can't be written: {error.strerror}") from error
        write_text(folder / f"{self.name}.svg", self.svg)


def render(template: str, **values: Any) -> str:
    """A page from a template in reporting/templates/; every text is escaped."""
    script = (_TEMPLATES / "sort.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page allows this script alone: one that comes in by a name would not run even if it were not escaped.
    return (
        _environment()
        .get_template(template)
        .render(script=Markup(script), script_digest=Markup(f"sha256-{digest}"), **values)
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _inline(svg: str, name: str, alt: str) -> Markup:
    """An SVG file that matplotlib wrote, as an element of a page. Its ids get `name` in front: a page has several."""
    body = svg[svg.index("<svg") :]
    tag, body = body[: body.index(">") + 1], body[body.index(">") + 1 :]
    box = re.search(r'viewBox="[^"]*"', tag)
    assert box is not None
    body = _IDS.sub(lambda match: f"{match[0]}{name}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = body.replace(TEXT, "var(--soft)")
    label = f'role="img" aria-label="{escape(alt)}"'
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} {label}>{body}'
    )
