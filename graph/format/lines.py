"""Opens text files, unpacks .gz, passes whole lines through a cleaning function, and cuts texts into whole lines."""

import contextlib
import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from graph.errors import InputError

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


def blocks_of_lines(stream: Any, size: int, lines: int = 1) -> Iterator[bytes]:
    """The text of a stream in blocks of whole lines, each of about `size` bytes.

    Args:
        lines: the fewest lines of the first block, unless the text has no more.

    Raises:
        ArrowInvalid: a line is longer than `LONGEST_LINE`.
    """
    kept, fewest = b"", lines
    while True:
        pieces = [kept]
        while (length := sum(map(len, pieces))) < len(kept) + size and (
            piece := stream.read(len(kept) + size - length)
        ):
            pieces.append(piece)
        ended = length < len(kept) + size
        block = b"".join(pieces)
        if block.find(b"\n") > LONGEST_LINE or (len(block) > LONGEST_LINE and b"\n" not in block):
            raise pa.ArrowInvalid(f"a line of more than {LONGEST_LINE} bytes")
        if ended:
            if block:
                yield block
            return
        # A \r at the end may be half of a \r\n.
        cut = 1 + max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1))
        if not cut or (fewest > 1 and block.count(b"\n") < fewest):
            kept = block
            continue
        kept, fewest = block[cut:], 1
        yield block[:cut]


def read_carefully(
    path: Path, parse: Callable[[bool], Iterator[pa.Table]], check: Callable[[], None]
) -> Iterator[pa.Table]:
    """What `parse(False)` gives, which is fast and may fail; then `check` names the fault, or `parse(True)` goes on.

    Args:
        parse: the rows of the file in tables; it raises an error of pyarrow or the system at what it does not accept.
        check: raises InputError if a line is wrong. It is also called if there are no rows.

    Raises:
        InputError: of `check`, or `parse(True)` failed too.
    """
    done = 0
    with contextlib.suppress(pa.ArrowException, OSError):  # `check` names the line
        for table in parse(False):
            done += len(table)
            yield table
        if done:
            return
    check()
    try:
        for table in parse(True):
            rest = table.slice(min(done, len(table)))
            done = max(done - len(table), 0)
            if len(rest):
                yield rest
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


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
