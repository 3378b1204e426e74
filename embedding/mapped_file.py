"""A file of rows, mapped into memory, some of whose rows can be taken out of the file into memory of their own.

Rows that training changes must not stay mapped: the system writes changed pages of a file to the disk every few
seconds, again and again while they change. With 85 million rows of 50 numbers, a busy machine wrote about 300 MB/s
of them, in minutes in which .5 GB of rows left. Rows that are held are written once, when they are let go.
"""

import ctypes
import errno
import mmap
import os
import tempfile
import threading
import weakref
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

_BLOCK_BYTES = 1 << 22
_SYNC = 4
"""MS_SYNC: wait until the pages are on the disk."""
_FIXED, _MAY_MOVE_TO = 0x10, 0x1 | 0x2
"""MAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED: a mapping takes the place of what was at an address, at one stroke."""
_READ_AND_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


class MappedFile(mmap.mmap):
    """A file without a name, mapped; its rows have `row_bytes`."""

    row_bytes: int
    file: int
    address: int
    held: dict[int, int]
    """Of each range of bytes that is in memory of its own: where it begins, and ends. Both are multiples of a page."""
    lock: threading.Lock
    """Taken while ranges change, and while pages are dropped: memory of its own would be lost by that."""

    @classmethod
    def make(cls, folder: Path, size: int, row_bytes: int) -> "MappedFile":
        """A new file in a folder. Raises OSError if the disk has no room for it."""
        file, name = tempfile.mkstemp(dir=folder, prefix="rows-")
        try:
            Path(name).unlink()
            # All its room now: a disk that is full later would be a bus error.
            os.posix_fallocate(file, 0, size)
            made = cls(file, size)
        except OSError:
            os.close(file)
            raise
        made.row_bytes, made.file, made.held, made.lock = row_bytes, file, {}, threading.Lock()
        weakref.finalize(made, os.close, file)
        return made

    def hold(self, first: int, stop: int) -> int:
        """Reads these rows into memory of their own, and returns their bytes. Nothing may change them meanwhile.

        Pages that they share with other rows stay mapped.

        Raises:
            OSError: they can't be read, or there is no memory.
        """
        begin, end = self._whole_pages(first, stop)
        if begin < end and begin not in self.held:
            size = end - begin
            memory = _mapped(None, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
            try:
                for place, block in _blocks(memory, size):
                    done = 0
                    while done < len(block):
                        read = os.preadv(self.file, [block[done:]], begin + place + done)
                        if not read:
                            raise OSError(errno.EIO, f"the file of rows ends at byte {begin + place + done}")
                        done += read
                with self.lock:
                    _expect(_system().mremap(memory, size, size, _MAY_MOVE_TO, self.address + begin))
                    self.held[begin] = end
            except OSError:
                _system().munmap(memory, size)
                raise
            os.posix_fadvise(self.file, begin, size, os.POSIX_FADV_DONTNEED)
        return (stop - first) * self.row_bytes

    def let_go(self, first: int, stop: int) -> int:
        """Writes these rows to the disk and takes them out of memory; returns their bytes."""
        begin, end = self._whole_pages(first, stop)
        # A rank may have no row of a shard: such a range begins where the next one does, which may be in use.
        if begin < end and begin in self.held:
            size = end - begin
            for place, block in _blocks(self.address + begin, size):
                done = 0
                while done < len(block):
                    done += os.pwritev(self.file, [block[done:]], begin + place + done)
            with self.lock:
                _mapped(self.address + begin, size, mmap.MAP_SHARED | _FIXED, self.file, begin)
                del self.held[begin]
        return self.drop(first, stop)

    def _whole_pages(self, first: int, stop: int) -> tuple[int, int]:
        """The bytes from the first page that is of these rows alone to the end of the last; none if begin >= end."""
        begin, end = -(-first * self.row_bytes // mmap.PAGESIZE), stop * self.row_bytes // mmap.PAGESIZE
        return begin * mmap.PAGESIZE, end * mmap.PAGESIZE

    def drop(self, first: int, stop: int) -> int:
        """Writes these rows to the disk and takes them out of memory, but for rows that are held; returns their bytes.

        Raises:
            OSError: they can't be written.
        """
        begin = first * self.row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(-(-stop * self.row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE, len(self))
        dropped = 0
        with self.lock:
            held = [(max(start, begin), min(over, end)) for start, over in sorted(self.held.items())]
            edges = [begin, *chain.from_iterable(pair for pair in held if pair[0] < pair[1]), end]
            for start, over in list(pairwise(edges))[::2]:
                if start >= over:
                    continue
                # Not mmap.flush, which holds Python's lock while the disk writes.
                if _system().msync(self.address + start, over - start, _SYNC):
                    raise _error()
                self.madvise(mmap.MADV_DONTNEED, start, over - start)
                os.posix_fadvise(self.file, start, over - start, os.POSIX_FADV_DONTNEED)
                dropped += over - start
        return dropped


@cache
def _system() -> ctypes.CDLL:
    """The calls of Linux; not looked up when this is imported, because other systems have no mremap."""
    calls, pointer, size, number = ctypes.CDLL(None, use_errno=True), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    calls.mmap.restype, calls.mmap.argtypes = pointer, [pointer, size, number, number, number, ctypes.c_long]
    calls.mremap.restype, calls.mremap.argtypes = pointer, [pointer, size, size, number, pointer]
    calls.munmap.argtypes = [pointer, size]
    calls.msync.argtypes = [pointer, size, number]
    return calls


def _blocks(address: int, size: int) -> list[tuple[int, memoryview]]:
    """Memory as blocks to read into or write from, each with the place where it begins."""
    whole = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    return [(start, whole[start : start + _BLOCK_BYTES]) for start in range(0, size, _BLOCK_BYTES)]


def _mapped(address: int | None, size: int, flags: int, file: int, offset: int) -> int:
    return _expect(_system().mmap(address, size, _READ_AND_WRITE, flags, file, offset))


def _expect(address: int | None) -> int:
    if address is None or address == ctypes.c_void_p(-1).value:
        raise _error()
    return address


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
