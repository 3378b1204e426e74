"""Text files as streams of bytes: unpacked, and as whole lines that went through a function."""

import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

LONGEST_LINE = 32 << 20
"""In bytes: what the fast reader holds at a time."""
_CHUNK = 1 << 20


def open_stream(path: Path, clean: Callable[[bytes], bytes] | None, *, careful: bool) -> Any:
    """The file's text as a stream for pyarrow, unpacked if its name ends in .gz.

    Args:
        clean: what whole lines go through; None for nothing.
        careful: unpack as Python does, which takes zeros after the end mark as gzip itself does, and pyarrow does not.
    """
    packed = path.suffix == ".gz"
    unpack: Any = gzip.open if packed and careful else partial(pa.input_stream, compression="gzip" if packed else None)
    stream = unpack(str(path))
    return stream if clean is None else _CleanStream(stream, clean)


class _CleanStream(io.RawIOBase):
    """Reads from a stream whole lines at a time and gives on what a function makes of them."""

    def __init__(self, stream: Any, clean: Callable[[bytes], bytes]) -> None:
        self._stream = stream
        self._clean = clean
        self._line: list[bytes] = []  # pieces of a line whose end was not read yet: joined once, however long it is
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """A stream for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as there is text; 0 at the end."""
        while not self._ready:
            block = self._stream.read(_CHUNK)
            cut = block.rfind(b"\n") + 1
            if block and not cut:
                self._line.append(block)
                continue
            whole = b"".join([*self._line, block[:cut]])
            self._line = [block[cut:]]
            if not block and not whole:
                return 0
            # A line that is too long for a triple is refused later, so what it holds need not be looked through.
            self._ready = memoryview(whole if len(whole) > LONGEST_LINE + _CHUNK else self._clean(whole))
        count = min(len(self._ready), len(buffer))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Closes the file below too."""
        self._stream.close()
        super().close()


def lines_of(path: Path) -> Iterator[bytes]:
    """Lines without their ends (\\n, \\r\\n or \\r). Of a broken gzip stream, all whole lines before the error.

    A line that is longer than `LONGEST_LINE` comes as its first piece of more than that, and is the last one.
    """
    pieces: list[bytes] = []
    length = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # read1, because read fills its whole buffer before it returns and would lose what precedes a broken end.
        while chunk := file.read1(_CHUNK):
            if b"\n" not in chunk and b"\r" not in chunk:
                pieces.append(chunk)
                length += len(chunk)
                if length > LONGEST_LINE:
                    break
                continue
            lines = b"".join([*pieces, chunk]).splitlines(keepends=True)
            # A last line that ends in \r stays too: the next chunk may begin with its \n.
            pieces = [] if lines[-1].endswith(b"\n") else [lines.pop()]
            length = sum(map(len, pieces))
            for line in lines:
                yield line.rstrip(b"\r\n")
    if pieces:
        yield b"".join(pieces).rstrip(b"\r\n")
