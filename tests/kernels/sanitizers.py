"""The C++ itself: it compiles without warnings, and sanitizers find no wrong access and no undefined behaviour.

Takes a minute or two, so that pytest runs it only by name, as CI does: pytest tests/kernels/sanitizers.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels.build

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "kernels").glob("*.cpp"))
# Left out: how vectors are passed by calls, for theirs are always inlined; OpenMP where there is none; and GCC's own
# header for AVX-512, which leaves what is written over uninitialized.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized"]
# With the kernels' own -O3 it takes minutes to compile them.
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0"}  # Python frees little when it ends
# Building and training are others' subject; every kernel has a test of its own.
TESTS = ["tests/kernels", "--ignore=tests/kernels/test_library.py", "--ignore=tests/kernels/test_plain.py"]


def compiler() -> list[str]:
    command = kernels.build.compiler()
    if not command:
        pytest.skip("no C++ compiler here")
    return command


def runtime(command: list[str]) -> str:
    """The libraries that must come first in a process: the sanitizer's, and C++'s, whose exceptions it watches."""
    names = "libasan.so", "libstdc++.so"
    found = [subprocess.check_output([*command, f"-print-file-name={name}"], text=True).strip() for name in names]
    if any(path == name for path, name in zip(found, names, strict=True)):
        pytest.skip(f"{command[0]} comes without {' or '.join(names)}")
    return " ".join(found)


def test_sanitizers_find_nothing_and_the_compiler_does_not_warn(tmp_path: Path):
    command = [*compiler(), *SANITIZERS, *WARNINGS]
    library = runtime(command)
    cache = tmp_path / "kernels"
    cache.mkdir(mode=0o700)
    # Built here, for with the sanitizer loaded the compiler itself would be slow.
    name = f"kernels-{kernels.build._key(command, SOURCES)}.so"
    try:
        kernels.build.build(command, SOURCES, cache / name)
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    environment = os.environ | OPTIONS
    environment |= {"CXX": " ".join(command), "ADVKGE_CACHE": str(tmp_path), "LD_PRELOAD": library}
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(pytest_command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert [each.name for each in cache.iterdir()] == [name]  # it was the one that was run
