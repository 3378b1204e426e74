"""Opens text files, unpacks .gz, and passes whole lines through a cleaning function."""

import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

LONGEST_LINE = 32 << 20
"""The longest line in bytes, and the block size of the fast reader."""
_CHUNK = 1 << 20
_SECONDS = 3.0
"""No progress bar for a file that is read sooner."""


def open_stream(path: Path, clean: Callable[[bytes], bytes] | None, *, careful: bool) -> Any:
    """The file's text as a stream for pyarrow, unpacked if its name ends in .gz. A terminal shows how far it is read.

    Args:
        clean: a function that whole lines go through; None: lines stay as they are.
        careful: unpack with Python's gzip, which accepts zeros after the end mark as the gzip command does. pyarrow,
            which is faster, does not accept them.
    """
    packed = path.suffix == ".gz"
    unpack: Any = gzip.open if packed and careful else partial(pa.input_stream, compression="gzip" if packed else None)
    stream = unpack(_ShownFile(path))
    return stream if clean is None else _CleanStream(stream, clean)


class _ShownFile(io.RawIOBase):
    """A file that is read with a progress bar of its bytes, on a terminal only."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        options: dict[str, Any] = {"unit": "B", "unit_scale": True, "delay": _SECONDS, "leave": False}
        # disable=None: tqdm checks whether the output is a terminal.
        self._bar = tqdm(desc=f"reading {path.name}", total=path.stat().st_size, disable=None, **options)

    def readable(self) -> bool:
        """True: the file can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Copies bytes into the buffer and returns how many; 0 at the end."""
        count = self._file.readinto(buffer)
        self._bar.update(count)
        return count

    def close(self) -> None:
        """Closes the file and the bar."""
        self._bar.close()
        self._file.close()
        super().close()


class _CleanStream(io.RawIOBase):
    """A stream that passes whole lines of another stream through a function."""

    def __init__(self, stream: Any, clean: Callable[[bytes], bytes]) -> None:
        self._stream = stream
        self._clean = clean
        self._line: list[bytes] = []  # pieces of a line without its end yet; joined only once
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """True: the stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Copies bytes into the buffer and returns how many; 0 at the end."""
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
            # A line that is too long is refused later, so it is not cleaned.
            self._ready = memoryview(whole if len(whole) > LONGEST_LINE + _CHUNK else self._clean(whole))
        count = min(len(self._ready), len(buffer))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Closes the stream and the stream that it reads from."""
        self._stream.close()
        super().close()


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a text or .gz file without their ends (\\n, \\r\\n or \\r).

    A broken gzip stream gives all whole lines before the error, then raises it. A line that is longer than
    `LONGEST_LINE` is cut somewhere after that length, and no line follows it.
    """
    pieces: list[bytes] = []
    length = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # read1, because read fills its whole buffer first and would lose the lines before a broken end.
        while chunk := file.read1(_CHUNK):
            if b"\n" not in chunk and b"\r" not in chunk:
                pieces.append(chunk)
                length += len(chunk)
                if length > LONGEST_LINE:
                    break
                continue
            lines = b"".join([*pieces, chunk]).splitlines(keepends=True)
            # A last line that ends in \r is kept back too: the next chunk may begin with the \n of its end.
            pieces = [] if lines[-1].endswith(b"\n") else [lines.pop()]
            length = sum(map(len, pieces))
            for line in lines:
                yield line.rstrip(b"\r\n")
    if pieces:
        yield b"".join(pieces).rstrip(b"\r\n")
