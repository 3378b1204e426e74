"""A look-up: the embedding rows that a training step reads, and the gradients of those rows.

autograd would build one gradient tensor of the size of all rows. A look-up avoids this. Scores are computed by custom
autograd functions that read `Lookup.rows` by place. Each of these functions takes `Lookup.handle`, a tensor of zero
elements, as an input, so that autograd calls its backward. Backward returns an empty gradient for the handle and passes
the real row gradient to `Lookup.add`, which keeps it in `Lookup.sources`. After backward, `Lookup.gradient` sums the
sources per row. `EmbeddingTable.take_gradient` does this once a step.
"""

import weakref
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.row_sources import GatheredGradient, RowGradientSource
from kernels.row_sums import sum_rows, whole_sum


class Lookup:
    """Rows of a table and the gradients that backward gave them. A place is the index of a row in `rows`.

    Args:
        rows: the rows, [U, E]: the table's own tensor on one rank, a copy of the distinct wanted rows otherwise.
        table: the tensor that `rows` was copied from; None if `rows` is no copy. If it changes in place before
            `gradient` is called, the gradients would be wrong, and `add` and `gradient` raise an error.
        keep: is called with this look-up when its first gradient arrives. It must store the look-up, because the
            autograd graph, which holds it until then, is freed after backward.

    Example:
        rows = lookup.gather(place)  # [B, N, E] for place [B, N]
        loss(rows).backward()
        place, gradient = lookup.gradient(torch.float32)  # distinct places [K], gradients [K, E]
    """

    def __init__(
        self,
        rows: Float[Tensor, "U E"],
        table: Float[Tensor, "L E"] | None = None,
        keep: "Callable[[Lookup], None] | None" = None,
    ) -> None:
        self.rows = rows
        self.sources: list[RowGradientSource] = []
        """The gradients that backward has given these rows, not yet summed."""
        self._table = rows if table is None else table
        self._version = self._table._version
        self._keep = keep
        self.handle = torch.zeros(0, dtype=rows.dtype, device=rows.device, requires_grad=True)
        """A tensor of zero elements: each use of the rows takes it as an input, so that autograd calls its backward."""

    @classmethod
    def of(cls, rows: Float[Tensor, "U E"]) -> "Lookup":
        """A look-up in rows that autograd computed: their gradient flows on to what they were computed from."""
        lookup = cls(rows.detach())
        if rows.requires_grad:
            lookup.handle = cast(Tensor, _RowsOf.apply(rows, lookup))
        return lookup

    def gather(self, place: Int64[Tensor, "*s"]) -> Float[Tensor, "*s E"]:
        """Copies of the rows at these places; differentiable."""
        return cast(Tensor, _Gather.apply(self.handle, self, place))

    def add(self, source: RowGradientSource) -> None:
        """Adds a gradient of these rows, as a tensor or as what it is computed from; called during backward.

        Raises:
            RuntimeError: the table has changed since the look-up.
        """
        self.expect_unchanged()
        self.sources.append(source)
        if self._keep is not None:
            keep, self._keep = self._keep, None
            keep(self)

    def expect_unchanged(self) -> None:
        """Raises RuntimeError if an optimiser or a checkpoint has changed the table since the look-up."""
        if self._table._version != self._version:
            raise RuntimeError(
                "the rows of a table have changed since they were looked up, by an optimiser's step or by loading: "
                "run backward and step() before that, or look up and score again"
            )

    def gradient(
        self, dtype: torch.dtype, room: Callable[..., Tensor] | None = None
    ) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
        """The distinct places that have a gradient, ascending, and the sum of the gradients at each place.

        Sums are made in float64 and rounded to `dtype`. On a GPU the last place may repeat, with sums of 0.

        Args:
            room: makes the tensor of the sums, see `kernels.row_sums.sum_rows`.

        Raises:
            RuntimeError: the table has changed since the look-up.
        """
        self.expect_unchanged()
        return sum_rows(self.sources, self.rows, dtype, room)

    def whole_gradient(self, dtype: torch.dtype) -> Float[Tensor, "U E"]:
        """The same sums as a tensor of all rows: zeros where there is no gradient."""
        self.expect_unchanged()
        return whole_sum(self.sources, self.rows, dtype)


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
    """Makes the handle from rows that autograd computed. Its backward runs after that of all uses of the handle."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, lookup: Lookup) -> Tensor:
        # A weak reference: the look-up's handle refers to this function, so a strong one would be a cycle. Each use of
        # the rows keeps the look-up alive until backward.
        ctx.lookup = weakref.ref(lookup)  # pyright: ignore[reportAttributeAccessIssue]
        return rows.new_zeros(0)

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> tuple[Tensor, None]:
        lookup: Lookup = ctx.lookup()  # pyright: ignore[reportAttributeAccessIssue]
        gradient = lookup.whole_gradient(lookup.rows.dtype)
        lookup.sources.clear()
        return gradient, None
