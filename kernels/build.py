"""Builds the library of kernels once, with this machine's C++ compiler, and keeps it in a private folder."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math"]
# Tried in turn, because not all compilers support them. Without OpenMP a kernel runs on one thread.
_WISHES = [["-march=native", "-fopenmp"], ["-march=native"], []]
_DIGEST = hashlib.sha256().digest_size
"""The last bytes of a library file are the SHA-256 of the rest, because loading an incomplete file can crash."""


def compiler() -> list[str]:
    """The C++ compiler as a list of words, such as ["ccache", "g++"]; empty if there is none."""
    found = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    return shlex.split(found or "")


def open_library(command: list[str]) -> ctypes.CDLL:
    """Loads the library from the cache, or builds it. A cached library that cannot be loaded is built again.

    Raises:
        OSError: the library cannot be written or loaded.
        subprocess.CalledProcessError: the compiler failed.
    """
    sources = sorted(Path(__file__).parent.glob("*.cpp"))
    name = f"kernels-{_key(command, sources)}.so"
    folder = _cache_folder()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="advkge-") as own:  # the loaded library stays after the file is deleted
            return _build_and_open(command, sources, Path(own) / name)
    path = folder / name
    if path.exists():
        try:
            return _open(path)
        except OSError as error:
            log.warning("%s is built again, for it can't be loaded: %s", path, error)
            path.unlink(missing_ok=True)
    return _build_and_open(command, sources, path)


def _build_and_open(command: list[str], sources: list[Path], path: Path) -> ctypes.CDLL:
    build(command, sources, path)
    try:
        return _open(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _open(path: Path) -> ctypes.CDLL:
    others = _who_may_write(path)
    if others:
        raise OSError(f"{path.name} {others}, so that it may hold anything")
    content = path.read_bytes()
    if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        raise OSError(f"{path.name} is damaged: it does not end with the SHA-256 of its content")
    return ctypes.CDLL(str(path))


def _cache_folder() -> Path | None:
    """The folder for libraries; None, with a warning, if it cannot be written or other users may write there."""
    above = Path(os.environ.get("ADVKGE_CACHE", "~/.cache/advkge")).expanduser()
    folder = above / "kernels"
    try:
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        log.warning("%s can't be written (%s): kernels are built again in each process", folder, error.strerror)
        return None
    for each in (above, folder):
        others = _who_may_write(each)
        if others:
            log.warning(
                "%s %s: no library from there is loaded, kernels are built again in each process; "
                "make it yours alone (chmod go-w), or name another folder by ADVKGE_CACHE",
                each,
                others,
            )
            return None
    return folder


def _who_may_write(path: Path) -> str:
    """Text that says who else may change the file or folder; empty if only the user and root may."""
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (number {found.st_uid})"
    # In a sticky folder such as /tmp, other users can add files but not replace the user's files.
    kept = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept:
        return f"can be written by other users (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


def _key(command: list[str], sources: list[Path]) -> str:
    """A key of all that the machine code depends on, because different machines may share a home folder."""
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    parts = [*command, version, str(_FLAGS), str(_WISHES), platform.machine(), _processor(), torch.__version__]
    parts += [each.read_text() for each in (*sources, *sorted(Path(__file__).parent.glob("*.h")))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's instruction sets if Linux lists them, else its name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())


def build(command: list[str], sources: list[Path], path: Path) -> None:
    """Compiles the sources into the library `path`, which is written atomically."""
    log.info("building the kernels with %s, once: takes seconds", " ".join(command))
    program = list(takewhile(lambda word: not word.startswith("-"), command))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        for wishes in _WISHES:
            flags = [*program, *_FLAGS, *wishes, *command[len(program) :]]  # later flags override earlier ones
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
                with built.open("ab") as file:
                    file.write(hashlib.sha256(built.read_bytes()).digest())
                built.chmod(0o700)
                os.replace(built, path)  # atomic: ranks that build at the same time do no harm
                return


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
