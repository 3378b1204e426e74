"""The wrong lines of a file of triples: collected for an error that names the first of them, or to be left out."""

from array import array
from collections import Counter
from pathlib import Path

from graph.errors import InputError

_NAMED = 10
"""Lines that an error names."""


class LineFault(InputError):
    """What is wrong with a line.

    Args:
        line: counted from 1.
        what: the fault, the rule and advice.
        reason: the fault in a few words, the same for all such lines; None: what stands before a comma in `what`.
    """

    def __init__(self, path: Path, line: int, what: str, reason: str | None = None) -> None:
        super().__init__(f"{path}, line {line}: {what}")
        self.line = line
        self.reason = what.partition(",")[0] if reason is None else reason


class WrongLinesError(InputError):
    """Lines of a file are wrong, and others may be right."""


class WrongLines:
    """The faults of a file, in the order of its lines."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.reasons: Counter[str] = Counter()
        """How many lines have which fault."""
        self._first: list[LineFault] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, fault: LineFault) -> None:
        """Takes one more fault, of a later line than all before."""
        self.numbers.append(fault.line)
        self.reasons[fault.reason] += 1
        if len(self._first) < _NAMED:
            self._first.append(fault)

    def error(self) -> WrongLinesError:
        """The error of these lines: the first in full, ten in short, and how many there are."""
        text = str(self._first[0])
        if len(self) > 1:
            named = ", ".join(f"{fault.line} ({fault.reason})" for fault in self._first)
            more = ", ..." if len(self) > len(self._first) else ""
            text += f"; {len(self):,} lines of the file are wrong: {named}{more}"
        return WrongLinesError(text)


class Without:
    """A function for whole lines, given in the order of a file, that leaves out those with these numbers."""

    def __init__(self, numbers: "array[int]") -> None:
        self._numbers = frozenset(numbers)
        self._done = 0

    def __call__(self, lines: bytes) -> bytes:
        """The lines that stay, with their ends."""
        each = lines.splitlines(keepends=True)
        first = self._done + 1
        self._done += len(each)
        return b"".join(line for number, line in enumerate(each, start=first) if number not in self._numbers)
