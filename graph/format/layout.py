"""The layout of a text file of triples, and the cleaning of its lines before they are split into columns."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# A field of a .csv line with what precedes it: a comma and spaces, or the start of the line.
_CSV_FIELD = re.compile(rb'(^|,)(?:(?<=,) +)?("(?:[^"\r\n]|"")*"|[^,\r\n]*)', re.MULTILINE)


@dataclass(frozen=True)
class Layout:
    """The layout of a text file of triples."""

    columns: str
    """The order of head, relation and tail, as in "hrt"."""
    separator: str
    """A tab, a comma (with standard quoting; spaces after it are skipped) or a space (any run of blanks)."""
    first_lines: int = 0
    """The number of lines before the triples: 1 for a header or OpenKE's count."""
    strip: bool = False
    """True: remove white space at the ends of names. False: it is an error."""

    @property
    def clean(self) -> Callable[[bytes], bytes] | None:
        """The function that cleans whole lines before they are split; None if there is none."""
        return {",": skip_spaces_after_commas, " ": single_spaces}.get(self.separator)


def skip_spaces_after_commas(lines: bytes) -> bytes:
    """Removes spaces that follow a comma outside quotes; `lines` are whole lines."""
    if b", " not in lines:
        return lines
    if b'"' in lines:
        return _CSV_FIELD.sub(rb"\1\2", lines)
    while b", " in lines:
        lines = lines.replace(b", ", b",")
    return lines


def single_spaces(lines: bytes) -> bytes:
    """Replaces each run of blanks by one space and removes blanks at both ends of a line; `lines` are whole lines."""
    lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    for blank, end in ((b" \n", b"\n"), (b" \r\n", b"\r\n"), (b"\n ", b"\n")):
        lines = lines.replace(blank, end)
    return lines.strip(b" ")
