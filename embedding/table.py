"""EmbeddingTable: rows of vectors on one rank, or partitioned over all ranks, behind one interface."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.exchange import Route, deliver_gradient, fetch_rows, plan_route
from graph.counter_random import combine, random_uniform, stream
from graph.partition import EntityPlacement


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a step for the rows of this rank's block that it touched, summed over all ranks."""

    row: Int64[Tensor, " K"]
    """Distinct rows of the block, ascending."""
    value: Float64[Tensor, "K D"]


class _Lookup:
    """One differentiable look-up of a step: filled in by backward, emptied by `take_gradient`."""

    def __init__(self, index: Int64[Tensor, " S"], num_rows: int, route: Route | None) -> None:
        self.index = index
        self.num_rows = num_rows
        self.route = route
        self.gradient: Tensor | None = None


class _GatherRows(torch.autograd.Function):
    """`rows[index]`, whose backward hands the gradient to the table instead of building one of the table's size."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, lookup: _Lookup) -> Tensor:
        ctx.lookup = lookup  # pyright: ignore[reportAttributeAccessIssue]
        return torch.nn.functional.embedding(lookup.index, rows)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[None, None]:
        lookup: _Lookup = ctx.lookup  # pyright: ignore[reportAttributeAccessIssue]
        lookup.gradient = gradient[0] if lookup.gradient is None else lookup.gradient + gradient[0]
        return None, None


class EmbeddingTable:
    """One row of `width` numbers an entity; each rank owns an equal contiguous block of the placed rows.

    Look-ups take entity ids. Only the distinct rows of a look-up travel, and `take_gradient` brings their gradients
    back to the owner. Gradients are summed in float64 whatever the rows' type: the order of a float64 sum, which
    depends on the number of ranks, is lost when it is rounded to float32, so that training draws the same negatives
    at every number of ranks.
    """

    def __init__(
        self,
        name: str,
        placement: EntityPlacement,
        width: int,
        *,
        rank: int,
        world_size: int,
        init_range: float,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.name = name
        self.width = width
        self.world_size = world_size
        self.block = placement.block_size(world_size)
        start, stop = placement.block(rank, world_size)
        self.row_of_entity = placement.row_of_entity.to(device)
        self.entity = placement.entity_of_row[start:stop].to(device)
        """The entity of each row of this rank's block."""
        self.weight = torch.empty((stop - start, width), dtype=dtype, device=device, requires_grad=True)
        self._lookups: list[_Lookup] = []
        self._initialise(init_range, stream(name, seed))

    @torch.no_grad()
    def _initialise(self, init_range: float, key: int) -> None:
        column = torch.arange(self.width, device=self.entity.device)
        for start in range(0, len(self.entity), 1 << 16):
            rows = slice(start, start + (1 << 16))
            uniform = random_uniform(key, combine(self.entity[rows, None], column))
            self.weight[rows] = ((2 * uniform - 1) * init_range).to(self.weight.dtype)

    def __call__(self, entity: Int64[Tensor, "*s"]) -> Float[Tensor, "*s D"]:
        """The rows of these entities, differentiable. Collective when partitioned."""
        row = self.row_of_entity[entity.flatten()]
        if self.world_size == 1:
            rows, lookup = self.weight, _Lookup(row, len(self.weight), None)
        else:
            distinct, index = torch.unique(row, return_inverse=True)
            route = plan_route(distinct, self.block)
            rows = fetch_rows(self.weight.detach(), route).requires_grad_()
            lookup = _Lookup(index, len(distinct), route)
        if torch.is_grad_enabled():
            self._lookups.append(lookup)
        gathered: Tensor = _GatherRows.apply(rows, lookup)  # pyright: ignore[reportAssignmentType]
        return gathered.view(*entity.shape, self.width)

    def take_gradient(self) -> RowGradient:
        """The gradient of all look-ups since the last call, summed at the rows' owner. Collective when partitioned."""
        received = [self._receive(lookup) for lookup in self._lookups]
        self._lookups.clear()
        if not received:
            return RowGradient(self.entity.new_empty(0), self._zeros(0))
        # Most steps look up once, and then the largest tensor of the step need not be copied.
        rows, values = received[0] if len(received) == 1 else map(torch.cat, zip(*received, strict=True))
        row, index = torch.unique(rows, return_inverse=True)
        return RowGradient(row, self._zeros(len(row)).index_add_(0, index, values))

    def _receive(self, lookup: _Lookup) -> tuple[Int64[Tensor, " K"], Float64[Tensor, "K D"]]:
        """The gradients that a look-up, on all ranks, gave this rank's rows; rows may repeat."""
        gradient = self._zeros(len(lookup.index)) if lookup.gradient is None else lookup.gradient.double()
        if lookup.route is None:
            return lookup.index, gradient
        wanted = self._zeros(lookup.num_rows).index_add_(0, lookup.index, gradient)
        return lookup.route.local_row, deliver_gradient(wanted, lookup.route)

    def _zeros(self, rows: int) -> Float64[Tensor, "rows D"]:
        return torch.zeros((rows, self.width), dtype=torch.float64, device=self.weight.device)

    def blocks(self, size: int) -> Iterator[tuple[int, Float[Tensor, "n D"]]]:
        """This rank's rows in pieces of `size`, as (first row, rows), without gradient."""
        for start in range(0, len(self.weight), size):
            yield start, self.weight.detach()[start : start + size]

    def gather_all(self, local: Shaped[Tensor, "L *d"]) -> Shaped[Tensor, "E *d"]:
        """A per-row tensor of every rank, brought into the order of entity ids. Collective when partitioned.

        For small graphs and tests: every rank then holds the whole.
        """
        if self.world_size > 1:
            padded = local.new_zeros((self.block, *local.shape[1:]))
            padded[: len(local)] = local
            pieces = [torch.empty_like(padded) for _ in range(self.world_size)]
            dist.all_gather(pieces, padded)
            local = torch.cat(pieces)
        return local[self.row_of_entity]
