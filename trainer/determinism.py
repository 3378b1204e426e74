"""Training on a GPU that gives the same numbers each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from graph.errors import InputError
from trainer.runtime import Runtime

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_ALLOWED = (":4096:8", ":16:8")
"""What cuBLAS needs to be repeatable, as its manual says. The second takes less of the GPU's memory and is slower."""


@contextmanager
def repeatable(runtime: Runtime, wanted: bool) -> Iterator[None]:
    """Within it, a GPU computes the same each time, or torch raises an error. Nothing changes on a CPU, which does so.

    torch's settings are those of the whole process, and are as they were afterwards. The variable of cuBLAS stays:
    cuBLAS reads it when it is first used.

    Args:
        wanted: `trainer.deterministic`.
    Raises:
        InputError: the environment asks cuBLAS for a workspace that is not repeatable.
    """
    if not wanted or runtime.device.type == "cpu":
        yield
        return
    given = os.environ.setdefault(_WORKSPACE, _ALLOWED[0])
    if given not in _ALLOWED:
        raise InputError(
            f"trainer.deterministic=true needs the environment variable {_WORKSPACE} to be {' or '.join(_ALLOWED)}, or "
            f"not set, got {given!r}"
        )
    filled = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # Every new tensor would be filled, too, which finds tensors that nobody writes, at the cost of a kernel each.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # pyright: ignore[reportAttributeAccessIssue]
