"""What a step looked up in a table, and the gradients that come back to it."""

import weakref
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.rows import GatheredGradient, RowGradientSource, sum_rows


class Lookup:
    """Rows of a table, each once, that scores are computed from by their place.

    Backward does not build a gradient of the rows' size: whoever uses rows says by `add` what their gradient is made
    of, and `gradient` sums it up once.

    Args:
        table: what the rows were taken from, if they are a copy. While it changes, no gradient is right any more.
        keep: called at the first gradient, which it must keep this look-up for: backward lets go of it.
    """

    def __init__(
        self,
        rows: Float[Tensor, "U E"],
        table: Float[Tensor, "L E"] | None = None,
        keep: "Callable[[Lookup], None] | None" = None,
    ) -> None:
        self.rows = rows
        self.sources: list[RowGradientSource] = []
        self._table = rows if table is None else table
        self._version = self._table._version
        self._keep = keep
        self.handle = torch.zeros(0, dtype=rows.dtype, device=rows.device, requires_grad=True)
        """Holds no number: an input of every use of the rows, so that autograd walks back through them."""

    @classmethod
    def of(cls, rows: Float[Tensor, "U E"]) -> "Lookup":
        """Rows that are themselves the result of differentiable operations."""
        lookup = cls(rows.detach())
        if rows.requires_grad:
            lookup.handle = cast(Tensor, _RowsOf.apply(rows, lookup))
        return lookup

    def gather(self, place: Int64[Tensor, "*s"]) -> Float[Tensor, "*s E"]:
        """Copies of rows, differentiable."""
        return cast(Tensor, _Gather.apply(self.handle, self, place))

    def add(self, source: RowGradientSource) -> None:
        """Takes a gradient of these rows.

        Raises:
            RuntimeError: the table has changed since the look-up.
        """
        self.expect_unchanged()
        self.sources.append(source)
        if self._keep is not None:
            keep, self._keep = self._keep, None
            keep(self)

    def expect_unchanged(self) -> None:
        """Refuses, by a RuntimeError, gradients of rows that an optimiser or a checkpoint has changed since."""
        if self._table._version != self._version:
            raise RuntimeError(
                "the rows of a table have changed since they were looked up, by an optimiser's step or by loading: "
                "run backward and step() before that, or look up and score again"
            )

    def gradient(self, dtype: torch.dtype) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
        """The distinct places that backward reached, ascending, and the gradient of each; summed in float64.

        Raises:
            RuntimeError: the table has changed since the look-up.
        """
        self.expect_unchanged()
        return sum_rows(self.sources, self.rows, dtype)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, handle: Tensor, lookup: Lookup, place: Tensor) -> Tensor:
        ctx.lookup, ctx.place = lookup, place.flatten()  # pyright: ignore[reportAttributeAccessIssue]
        return torch.nn.functional.embedding(place, lookup.rows)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, None, None]:
        lookup: Lookup = ctx.lookup  # pyright: ignore[reportAttributeAccessIssue]
        place: Tensor = ctx.place  # pyright: ignore[reportAttributeAccessIssue]
        value = gradient[0].reshape(len(place), lookup.rows.shape[1]).contiguous()
        lookup.add(GatheredGradient(place, value))
        return lookup.handle.new_zeros(0), None, None


class _RowsOf(torch.autograd.Function):
    """From rows to a look-up's handle; its backward comes after that of everything which used the handle."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, lookup: Lookup) -> Tensor:
        # Weak, for the look-up's handle leads here; whatever is to be differentiated keeps the look-up.
        ctx.lookup = weakref.ref(lookup)  # pyright: ignore[reportAttributeAccessIssue]
        return rows.new_zeros(0)

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> tuple[Tensor, None]:
        lookup: Lookup = ctx.lookup()  # pyright: ignore[reportAttributeAccessIssue]
        place, value = lookup.gradient(lookup.rows.dtype)
        lookup.sources.clear()
        return torch.zeros_like(lookup.rows).index_copy_(0, place, value), None
