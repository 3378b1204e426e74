"""The compiled loops: built once for this machine by its C++ compiler, kept in a cache, and called with tensors.

No torch header is compiled, so building takes seconds: a kernel gets addresses and sizes. OpenMP is torch's own, whose
library is in the process before ours asks for it, so that both share one pool of threads.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-w"]
# Not every compiler has all of them; without OpenMP a kernel runs on one thread.
_WISHES = [["-march=native", "-fopenmp"], ["-march=native"], []]
_FIRST_ERROR_LINES = 3
_TYPES = (torch.float32, torch.float64, torch.int64)


def usable(*tensors: Tensor) -> bool:
    """Whether kernels take these tensors: on the CPU, of 32 or 64 bits, where a compiler built the library."""
    fitting = all(each.device.type == "cpu" and each.dtype in _TYPES for each in tensors)
    return fitting and load() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> int:
    """Calls a kernel: tensors (contiguous, on the CPU) go as addresses, None as a null address."""
    library = load()
    assert library is not None, f"{name} was called although no library could be built"
    words = (ctypes.c_int64 * len(arguments))(*map(word, arguments))
    return getattr(library, name)(words)


@dataclass(frozen=True)
class Products:
    """Addresses of the matrix products that torch itself calls, for kernels to call."""

    float32: int
    float64: int
    set_threads: int
    """Sets on how many threads the calling thread's products run; gives what was set before."""


@cache
def products() -> Products | None:
    """MKL's products in torch's own library; None where torch was built with another."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not path.exists():
        return None
    library = ctypes.CDLL(str(path))
    names = "sgemm_", "dgemm_", "MKL_Set_Num_Threads_Local"
    if not all(hasattr(library, name) for name in names):
        return None
    addresses = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names)
    return Products(*addresses)


def type_name(tensor: Tensor) -> str:
    """What a kernel's name says of the numbers it takes."""
    return "float32" if tensor.dtype == torch.float32 else "float64"


def word(argument: Tensor | int | float | None) -> int:
    """An argument as the 64 bits that a kernel takes it for."""
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return argument.data_ptr()
    if isinstance(argument, float):
        return struct.unpack("q", struct.pack("d", argument))[0]
    return argument or 0


@cache
def load() -> ctypes.CDLL | None:
    """The library, built first if the cache does not have it; None, said once, where that can't be done."""
    found = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    compiler = shlex.split(found or "")  # may be two words, as in "ccache g++"
    if not compiler:
        log.warning("no C++ compiler found (c++, g++, clang++ or $CXX): plain torch is used, which is slower")
        return None
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    try:
        path = _cache_folder() / f"kernels-{_key(compiler, sources)}.so"
        if not path.exists():
            _build(compiler, sources, path)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).splitlines()[:_FIRST_ERROR_LINES]
        log.warning("kernels could not be built (%s): plain torch is used, which is slower", " | ".join(lines))
        return None
    return library


def _cache_folder() -> Path:
    folder = Path(os.environ.get("ADVKGE_CACHE", "~/.cache/advkge")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        log.warning("%s can't be written (%s): kernels are built again in each process", folder, error.strerror)
        return Path(tempfile.mkdtemp(prefix="advkge-"))
    return folder


def _key(compiler: list[str], sources: list[Path]) -> str:
    """Of everything that the machine code depends on: a home folder may be shared by different machines."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    parts = [version, str(_FLAGS), str(_WISHES), platform.machine(), _processor(), torch.__version__]
    parts += [each.read_text() for each in (*sources, *sorted(Path(__file__).parent.glob("*.h")))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The instructions that the processor has, where Linux says so."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())


def _build(compiler: list[str], sources: list[Path], path: Path) -> None:
    log.info("building the kernels with %s, once: takes seconds", " ".join(compiler))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        for wishes in _WISHES:
            flags = [*compiler, *_FLAGS, *wishes]
            objects = [Path(folder) / f"{source.stem}.o" for source in sources]
            commands = [
                [*flags, "-c", str(source), "-o", str(made)] for source, made in zip(sources, objects, strict=True)
            ]
            try:
                with ThreadPoolExecutor(os.cpu_count()) as compilers:
                    list(compilers.map(_run, commands))
                _run([*flags, "-shared", *map(str, objects), "-o", str(built)])
            except subprocess.CalledProcessError:
                if wishes == _WISHES[-1]:
                    raise
            else:
                os.replace(built, path)  # atomic: ranks that build at the same time do no harm
                return


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
