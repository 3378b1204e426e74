"""The hop of a layer that makes the rows of all entities: each rank those that it owns, from rows of all ranks."""

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.encoder.edges import Edges
from embedding.encoder.hop import Hop
from embedding.exchange import Route, deliver_rows, fetch_rows, plan_route


class Neighbours:
    """Fetches the rows of some sources, by a route that is planned once.

    Args:
        sources: distinct rows of the whole table, ascending.
        block: rows that a rank owns.
        world_size: the number of ranks.

    Making one is Collective when partitioned.
    """

    def __init__(self, sources: Int64[Tensor, " U"], *, block: int, world_size: int) -> None:
        self._sources = sources
        self._route = plan_route(sources, block) if world_size > 1 else None

    def rows(self, own: Float[Tensor, "L D"]) -> Float[Tensor, "U D"]:
        """The rows of the sources, from the rows that each rank has of its block. Collective when partitioned.

        So is its backward, which sends gradients to the owners and sums them in float64.
        """
        return cast(Tensor, _Fetch.apply(own, self._sources, self._route))


class WholeHop(Hop):
    """A layer gets and makes the rows of this rank's block; see `Hop`."""

    def __init__(self, edges: Edges, entity: Int64[Tensor, " L"], neighbours: Neighbours) -> None:
        super().__init__(edges, entity)
        self._neighbours = neighbours

    def own(self, rows: Float[Tensor, "L D"]) -> Float[Tensor, "L D"]:
        """All of them."""
        return rows

    def sources(self, rows: Float[Tensor, "L D"]) -> Float[Tensor, "U D"]:
        """See `Neighbours.rows`."""
        return self._neighbours.rows(rows)


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor, sources: Tensor, route: Route | None) -> Tensor:
        ctx.chosen = len(own), sources, route  # pyright: ignore[reportAttributeAccessIssue]
        return own.index_select(0, sources) if route is None else fetch_rows(own, route)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor, None, None]:
        size, sources, route = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        given = gradient[0]
        if route is None:  # each row is there once
            return given.new_zeros((size, given.shape[1])).index_copy_(0, sources, given), None, None
        total = given.new_zeros((size, given.shape[1]), dtype=torch.float64)
        total.index_add_(0, route.local_row, deliver_rows(given.double(), route))
        return total.to(given.dtype), None, None
