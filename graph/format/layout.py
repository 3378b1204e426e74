"""The layout of a text file of triples, and the cleaning of its lines before they are split into columns."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# A field of a .csv line with the comma or the start of the line before it, and the spaces around it.
_CSV_FIELD = re.compile(
    rb'(^|,) *+("(?:[^"\r\n]|"")*+"(?= *+(?:[,\r\n]|\Z))|(?:[^,\r\n ]| ++(?![,\r\n]|\Z))*+) *+', re.MULTILINE
)
_BESIDE = ((b", ", b","), (b" ,", b","), (b"\n ", b"\n"), (b" \n", b"\n"), (b" \r", b"\r"))


@dataclass(frozen=True)
class Layout:
    """The layout of a text file of triples."""

    columns: str
    """The order of head, relation and tail, as in "hrt"."""
    separator: str
    """A tab, a comma (with standard quoting; spaces around a name are skipped) or a space (any run of blanks)."""
    first_lines: int = 0
    """The number of lines before the triples: 1 for a header or OpenKE's count."""
    strip: bool = False
    """True: remove white space at the ends of names. False: it is an error."""

    @property
    def clean(self) -> Callable[[bytes], bytes] | None:
        """The function that cleans whole lines before they are split; None if there is none."""
        return {",": skip_spaces_around_names, " ": single_spaces}.get(self.separator)


def skip_spaces_around_names(lines: bytes) -> bytes:
    """Removes spaces beside commas and at the ends of lines, outside quotes; `lines` are whole lines."""
    if b'"' in lines:
        return _CSV_FIELD.sub(rb"\1\2", lines)
    for spaced, plain in _BESIDE:
        while spaced in lines:
            lines = lines.replace(spaced, plain)
    return lines.strip(b" ")


def single_spaces(lines: bytes) -> bytes:
    """Replaces each run of blanks by one space and removes blanks at both ends of a line; `lines` are whole lines."""
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    for blank, end in ((b" \n", b"\n"), (b" \r\n", b"\r\n"), (b"\n ", b"\n")):
        lines = lines.replace(blank, end)
    return lines.strip(b" ")
