"""Every Triton kernel compiles for GPUs that are not here, within a budget of registers and without spills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REGISTERS = 128
"""A thread; at 128, four programs of four warps share a processor of a GPU: a quarter of the warps that it can hold."""


@pytest.mark.slow
def test_kernels_compile_without_spills(tmp_path: Path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-m", "tests.kernels.gpu.compiled"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["capability"] for each in made} == {80, 90, 100}
    assert len({each["kernel"] for each in made}) >= 30
    for each in made:
        assert each["STACK"] == each["LOCAL"] == 0, each
        assert each["REG"] <= REGISTERS, each
        assert each["SHARED"] <= 16 * 1024, each
