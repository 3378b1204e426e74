"""Triton's interpreter runs the kernels on the CPU. It must be asked for before the first kernel is defined."""

import importlib.util
import os

import pytest

os.environ["TRITON_INTERPRET"] = "1"

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _numbers_that_overflow_are_meant():
    """The interpreter computes with numpy, which warns of what a GPU does without a word."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield
