"""Building the library: once, said where it can't be, and never in the way."""

import functools
import hashlib
import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kernels.build
import kernels.library
from kernels.build import _key
from kernels.draws import draw

ROOT = Path(__file__).parents[2]
BUILT, BUILD = kernels.library.load(), kernels.library.load.__wrapped__
SLOW = 0.3
"""Seconds that a stand-in for the compiler takes, so that two of them meet."""

Load = Callable[[], bool]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Load:
    """Loads the library as a new process would, and says whether there is one."""
    caplog.set_level(logging.INFO, logger="kernels")

    def fresh() -> bool:
        monkeypatch.setattr(kernels.library, "load", functools.cache(BUILD))
        caplog.clear()
        log_prob, pick = draw(torch.zeros(1, 2), torch.tensor([[0.2, 0.7]], dtype=torch.float64))
        assert pick.tolist() == [[0, 1]]
        assert log_prob.exp().tolist() == [[0.5, 0.5]]
        return kernels.library.load() is not None

    return fresh


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ADVKGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


def script(path: Path, lines: str) -> str:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def compiler(folder: Path, version: str = "1") -> tuple[str, Path]:
    """A stand-in that gives the library that was built before, and notes when it is asked to link one."""
    calls = folder / "calls"
    calls.touch()
    assert BUILT is not None
    lines = f"""case " $* " in *" --version "*) echo version {version}; exit;; esac
case " $* " in *" -shared "*) echo call >> {calls}; sleep {SLOW};; esac
while [ "$1" != -o ]; do shift; done
cp {BUILT.loaded._name} "$2" """
    return script(folder / "compiler", lines), calls


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_no_compiler_is_said_once(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not load()
    assert not kernels.library.usable(torch.zeros(1))
    expected = "no C++ compiler found (c++, g++, clang++ or $CXX): plain torch is used, which is slower"
    assert warnings(caplog) == [expected]


def test_a_compiler_that_is_not_there_is_named(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert not load()
    (message,) = warnings(caplog)
    assert message.startswith("kernels could not be built (")
    assert "/nowhere/c++" in message


@pytest.mark.parametrize("version", ["exit 0", "echo broken >&2; exit 1"])
def test_a_compiler_that_fails_is_quoted(
    version: str,
    load: Load,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    lines = f'if [ "$1" = --version ]; then {version}; fi; echo broken >&2; echo more >&2; exit 1'
    monkeypatch.setenv("CXX", script(tmp_path / "compiler", lines))
    assert not load()
    (message,) = warnings(caplog)
    assert message.startswith("kernels could not be built (broken")
    assert message.endswith("): plain torch is used, which is slower")
    assert list(cache.glob("*")) == []


def test_a_compiler_without_openmp_does(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    name, calls = compiler(tmp_path)
    only = f'for each in "$@"; do [ $each = -fopenmp ] && exit 1; done; exec {name} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "picky", only))
    assert load()
    assert warnings(caplog) == []
    assert calls.read_text() == "call\n"


def test_it_is_built_once_for_each_compiler(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    name, calls = compiler(tmp_path)
    monkeypatch.setenv("CXX", name)
    assert load()
    assert [record.getMessage() for record in caplog.records] == [
        f"building the kernels with {name}, once: takes seconds"
    ]
    assert load()
    assert caplog.records == []
    assert calls.read_text() == "call\n"
    (library,) = cache.iterdir()
    compiler(tmp_path, version="2")
    assert load()
    assert calls.read_text() == 2 * "call\n"
    assert len(list(cache.iterdir())) == 2
    assert library in cache.iterdir()


def test_it_is_built_again_when_a_source_or_an_option_of_the_compiler_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    name, _ = compiler(tmp_path)
    source = tmp_path / "one.cpp"
    source.write_text("first")
    first = _key([name], [source])
    assert _key([name], [source]) == first
    assert _key([name, "-O0"], [source]) != first
    source.write_text("second")
    assert _key([name], [source]) != first


@pytest.mark.parametrize("inside", [False, True])
def test_a_cache_that_can_not_be_written_is_said_and_done_without(
    inside: bool,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    name, calls = compiler(tmp_path)
    file = tmp_path / "file"
    file.touch()
    folder = file / "cache" if inside else file
    monkeypatch.setenv("CXX", name)
    monkeypatch.setenv("ADVKGE_CACHE", str(folder))
    monkeypatch.setattr(kernels.build.tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    assert load()
    assert calls.read_text() == "call\n"
    (message,) = warnings(caplog)
    assert message.startswith(f"{folder}/kernels can't be written (")
    assert message.endswith("): kernels are built again in each process")
    assert sorted(tmp_path.iterdir()) == before  # what is loaded leaves no folder behind


def test_a_file_that_is_no_library_is_said(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lines = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo nothing > "$2"; shift; done; exit 0'
    monkeypatch.setenv("CXX", script(tmp_path / "compiler", lines))
    assert not load()
    (message,) = warnings(caplog)
    assert re.match(r"kernels could not be built \(.*/kernels-[0-9a-f]+\.so: ", message)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "no library"])
def test_a_library_that_can_not_be_loaded_is_built_again_once(
    damage: str,
    load: Load,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    name, calls = compiler(tmp_path)
    monkeypatch.setenv("CXX", name)
    assert load()
    (built,) = cache.iterdir()
    content = built.read_bytes()
    middle = len(content) // 2
    none = b"nothing"
    # Elsewhere, for this process would find what it has loaded already by its path.
    monkeypatch.setenv("ADVKGE_CACHE", str(tmp_path / "other"))
    (library := tmp_path / "other" / "kernels" / built.name).parent.mkdir(mode=0o700, parents=True)
    library.touch(mode=0o700)
    library.write_bytes(
        {
            "cut": content[:middle],  # loading it would end the process by a bus error
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "no library": none + hashlib.sha256(none).digest(),
        }[damage]
    )
    assert load()
    (message,) = warnings(caplog)
    assert message.startswith(f"{library} is built again, for it can't be loaded: ")
    assert calls.read_text() == 2 * "call\n"
    assert load()
    assert caplog.records == []


def test_the_cache_is_the_users_alone(load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CXX", compiler(tmp_path)[0])
    before = os.umask(0)
    try:
        assert load()
    finally:
        os.umask(before)
    (library,) = cache.iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (cache.parent, cache, library)] == [0o700] * 3


def test_a_library_that_others_may_write_is_not_loaded(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    name, calls = compiler(tmp_path)
    monkeypatch.setenv("CXX", name)
    assert load()
    (library,) = cache.iterdir()
    library.chmod(0o770)
    assert load()
    (message,) = warnings(caplog)
    assert message.endswith(f"{library.name} can be written by other users (mode 770), so that it may hold anything")
    assert calls.read_text() == 2 * "call\n"
    assert stat.S_IMODE(library.stat().st_mode) == 0o700


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_folder_that_others_may_write_is_not_used(
    above: bool,
    mode: int,
    load: Load,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    name, calls = compiler(tmp_path)
    monkeypatch.setenv("CXX", name)
    monkeypatch.setattr(kernels.build.tempfile, "tempdir", str(tmp_path))
    assert load()
    kept, before = list(cache.iterdir()), sorted(tmp_path.iterdir())
    folder = cache.parent if above else cache
    folder.chmod(mode)
    assert load()
    (message,) = warnings(caplog)
    assert message.startswith(
        f"{folder} can be written by other users (mode {mode:o}): no library from there is loaded"
    )
    assert calls.read_text() == 2 * "call\n"
    assert (list(cache.iterdir()), sorted(tmp_path.iterdir())) == (kept, before)


def test_a_folder_of_another_user_is_not_used(
    load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CXX", compiler(tmp_path)[0])
    assert load()
    other = 4242
    if os.geteuid() == 0:
        os.chown(cache, other, -1)
    else:
        other = os.geteuid()
        monkeypatch.setattr(kernels.build.os, "geteuid", lambda: other + 1)
    assert load()
    (message,) = warnings(caplog)
    assert f"belongs to another user (number {other}): no library from there is loaded" in message


def test_two_processes_that_build_at_once_do_no_harm(cache: Path, tmp_path: Path):
    name, calls = compiler(tmp_path)
    program = """
import torch
from kernels.library import call, load
out = torch.empty(1, 2, dtype=torch.float64)
input()
call("random_uniform", 1, torch.tensor([5]), out, 1, 2, 1)
print(load().loaded._name, out.tolist())
"""
    environment = os.environ | {"CXX": name, "ADVKGE_CACHE": str(cache.parent), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, **pipes) for _ in range(2)]
    found = [each.communicate("\n", timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], found
    assert found[0] == found[1]
    assert 1 <= len(calls.read_text().splitlines()) <= 2
    (library,) = cache.iterdir()
    assert found[0][0].startswith(str(library))
