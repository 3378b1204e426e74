"""Tests that only a GPU can show: skipped, with a line that says why, where there is none."""

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _a_gpu_and_compiled_kernels():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton's interpreter would run the kernels on the CPU: TRITON_INTERPRET=0 pytest tests/gpu")
