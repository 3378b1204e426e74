"""Triton's kernels on the CPU, by its interpreter."""

import importlib.util

import pytest

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _numbers_that_overflow_are_meant():
    """The interpreter computes with numpy, which warns of what a GPU does without a word."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield
