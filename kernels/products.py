"""Finds the matrix products (MKL) in torch's library, so that kernels can call them, and tests them."""

import ctypes
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from kernels.library import call, type_name, usable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Products:
    """Addresses of functions of MKL."""

    float32: int
    float64: int
    set_threads: int
    """Sets the number of threads of products that the calling thread runs; returns the old number."""

    def of(self, dtype: torch.dtype) -> int:
        """The address of the product of matrices of this type."""
        return self.float32 if dtype == torch.float32 else self.float64


@cache
def products() -> Products | None:
    """MKL's products in torch's library; None if torch has no MKL or the products fail the test."""
    found = _find() if usable() else None
    if found is not None and not all(_are_right(found, dtype) for dtype in (torch.float32, torch.float64)):
        log.warning(
            "the matrix products in torch's library gave kernels wrong numbers: plain torch is used, which is slower"
        )
        return None
    return found


def _find() -> Products | None:
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not path.exists():
        return None
    library = ctypes.CDLL(str(path))
    names = "sgemm_", "dgemm_", "MKL_Set_Num_Threads_Local"
    if not all(hasattr(library, name) for name in names):
        return None
    addresses = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names)
    return Products(*addresses)


def _are_right(found: Products, dtype: torch.dtype) -> bool:
    """Tests products of small whole numbers, which are exact, in each way that kernels use them."""
    for m, n, k in ((3, 5, 2), (33, 20, 65)):
        left, right = (torch.arange(size).view(shape) % 7 - 3 for size, shape in ((m * k, (m, k)), (k * n, (k, n))))
        for turn_left, turn_right, keep in ((False, True, 0), (False, False, 0), (True, False, 0), (True, False, 1)):
            given = (left.T if turn_left else left).contiguous(), (right.T if turn_right else right).contiguous()
            out = torch.full((m, n), 2, dtype=dtype)
            sizes = m, n, k, int(turn_left), int(turn_right), float(keep)
            name = f"matrix_product_{type_name(out)}"
            call(name, *(each.to(dtype) for each in given), out, *sizes, found.of(dtype), found.set_threads)
            if not out.equal((left @ right + 2 * keep).to(dtype)):
                return False
    return True
