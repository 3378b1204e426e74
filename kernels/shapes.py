"""What must hold of sizes before a kernel sees them: it has nothing but addresses, and would read beyond an array."""

from torch import Tensor

INT32_MAX = 2**31 - 1
"""The greatest number that int32 holds."""


def expect_shape(what: str, tensor: Tensor | None, *shape: int) -> None:
    """Refuses, by a ValueError, a tensor of another shape; None is what may be left out."""
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{what} must have shape {list(shape)}, got {list(tensor.shape)}")


def per_chunk(queries: int, chunks: int) -> int:
    """How many queries each chunk has; a ValueError if they are not divided evenly."""
    size = queries // max(chunks, 1)
    if size * chunks != queries:
        raise ValueError(f"{queries} queries are not divided evenly over {chunks} chunks")
    return size


def expect_int32(what: str, number: int) -> None:
    """Refuses, by an OverflowError, a number that a kernel could not keep in int32."""
    if number > INT32_MAX:
        raise OverflowError(f"{number} {what}: at most {INT32_MAX}, what int32 holds")
