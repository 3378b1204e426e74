"""What the machine can do: the limits that figures are shares of, each measured with torch itself."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import BATCH, CHUNK, DIMENSION, NEGATIVES
from benchmarks.timing import in_turns

_SQUARE, _SMALL_SQUARE = 2048, 256
_LONGEST_PRODUCT = 2.0
"""Seconds. A processor without bfloat16 instructions would take a minute for a large square."""
_GATHERED_ROWS = 1 << 16
_SMALL_TABLE, _LARGE_TABLE = 14_541, 640_000
"""Rows of FB15k-237's table, 12 MB, and of one that no cache holds, 512 MB."""
_PIECES = 6


class Limits:
    """The best that was measured of some limits in this process: on a noisy machine the larger is nearer the truth."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.best = dict.fromkeys(names, 0.0)
        self._device = device

    def measure(self) -> None:
        """Once more, each."""
        for name, best in self.best.items():
            self.best[name] = max(best, LIMITS[name](self._device))


def _rate(amount: float, work: Callable[[], object]) -> float:
    work()
    return amount / in_turns([work], _PIECES)[0].best


def _product(dtype: torch.dtype, device: torch.device) -> float:
    """GFLOP/s of a large square, or of a small one where the large one would take too long."""
    small = _square_product(_SMALL_SQUARE, dtype, device)
    return small if 2e-9 * _SQUARE**3 / small > _LONGEST_PRODUCT else _square_product(_SQUARE, dtype, device)


def _square_product(size: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return _rate(2e-9 * size**3, lambda: torch.mm(left, right, out=out))


def _gather(rows: int, device: torch.device) -> float:
    # Written once, or all of it would be the kernel's one page of zeros.
    table = torch.ones(rows, DIMENSION, device=device)
    index = torch.randint(rows, (_GATHERED_ROWS,), device=device)
    out = table.new_empty(_GATHERED_ROWS, DIMENSION)
    return _rate(out.nbytes / 1e9, lambda: torch.index_select(table, 0, index, out=out))


def _cdist(device: torch.device) -> float:
    query, pool = (
        torch.randn(BATCH // CHUNK, size, DIMENSION, device=device, requires_grad=True) for size in (CHUNK, NEGATIVES)
    )
    gradient = torch.ones(BATCH // CHUNK, CHUNK, NEGATIVES, device=device)

    def forward_and_backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(torch.cdist(query, pool, p=1), (query, pool), gradient)

    return _rate(BATCH, forward_and_backward)


LIMITS: dict[str, Callable[[torch.device], float]] = {
    "sgemm GFLOP/s": lambda device: _product(torch.float32, device),
    "bf16 gemm GFLOP/s": lambda device: _product(torch.bfloat16, device),
    "gather GB/s": lambda device: _gather(_SMALL_TABLE, device),
    "gather beyond cache GB/s": lambda device: _gather(_LARGE_TABLE, device),
    "cdist positives/s": _cdist,
}
"""Gathers count the bytes of the rows read, not those written. cdist is L1, forward and backward, of one side."""
