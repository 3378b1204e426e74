"""Checks sizes before a kernel is called. A kernel has only addresses and would read beyond an array."""

from torch import Tensor

INT32_MAX = 2**31 - 1
"""The greatest number that int32 holds."""


def expect_shape(what: str, tensor: Tensor | None, *shape: int) -> None:
    """Raises ValueError if the tensor has another shape; None is allowed."""
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{what} must have shape {list(shape)}, got {list(tensor.shape)}")


def per_chunk(queries: int, chunks: int) -> int:
    """The number of queries of a chunk; raises ValueError if chunks would differ in size."""
    size = queries // max(chunks, 1)
    if size * chunks != queries:
        raise ValueError(f"{queries} queries are not divided evenly over {chunks} chunks")
    return size


def expect_int32(what: str, number: int) -> None:
    """Raises OverflowError if the number does not fit int32."""
    if number > INT32_MAX:
        raise OverflowError(f"{number} {what}: at most {INT32_MAX}, what int32 holds")
