"""How a text file of triples is laid out, and what is taken out of its lines before they are split."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# A field of a .csv line with what stands before it: a comma and spaces, or the start of the line.
_CSV_FIELD = re.compile(rb'(^|,)(?:(?<=,) +)?("(?:[^"\r\n]|"")*"|[^,\r\n]*)', re.MULTILINE)


@dataclass(frozen=True)
class Layout:
    """What a reader must know of a text file of triples."""

    columns: str
    """The order of head, relation and tail, as in "hrt"."""
    separator: str
    """A tab, a comma (then with standard quoting, and spaces after a comma are skipped) or a space (any blanks)."""
    first_lines: int = 0
    """Lines before the triples: a header, or OpenKE's count."""
    strip: bool = False
    """Whether white space at the edges of names is cut off; it is refused otherwise."""

    @property
    def clean(self) -> Callable[[bytes], bytes] | None:
        """What whole lines go through before they are split, if anything."""
        return {",": skip_spaces_after_commas, " ": single_spaces}.get(self.separator)


def skip_spaces_after_commas(lines: bytes) -> bytes:
    """Whole lines without the spaces that follow a comma outside of quotes."""
    if b", " not in lines:
        return lines
    if b'"' in lines:
        return _CSV_FIELD.sub(rb"\1\2", lines)
    while b", " in lines:
        lines = lines.replace(b", ", b",")
    return lines


def single_spaces(lines: bytes) -> bytes:
    """Whole lines with one space for each run of blanks, and none at the ends of a line."""
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    for blank, end in ((b" \n", b"\n"), (b" \r\n", b"\r\n"), (b"\n ", b"\n")):
        lines = lines.replace(blank, end)
    return lines.strip(b" ")
