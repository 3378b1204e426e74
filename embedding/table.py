"""EmbeddingTable: rows of vectors on one rank, or partitioned over all ranks, behind one interface."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from embedding.exchange import Route, deliver_rows, fetch_rows, plan_route
from embedding.initial import InitialValues
from embedding.lookup import Lookup
from graph.counter_random import combine, stream
from graph.partition import EntityPlacement
from kernels.rows import RowGradient, distinct_rows, sum_occurrences, sum_rows


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
        initial: InitialValues,
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
        self.weight = torch.empty((stop - start, width), dtype=dtype, device=device)
        self._lookups: list[tuple[Lookup, Route | None]] = []
        self._own: list[RowGradient] = []
        self._initialise(initial, stream(name, seed))

    def _initialise(self, initial: InitialValues, key: int) -> None:
        column = torch.arange(self.width, device=self.entity.device)
        for start in range(0, len(self.entity), 1 << 16):
            rows = slice(start, start + (1 << 16))
            self.weight[rows] = initial(key, combine(self.entity[rows, None], column)).to(self.weight.dtype)

    def look_up(self, *entities: Int64[Tensor, "..."]) -> tuple[Lookup, list[Int64[Tensor, "..."]]]:
        """The rows of these entities, and their places for each tensor of entities. Collective when partitioned.

        Gradients that reach the rows are kept for `take_gradient`, unless gradients are off.
        """
        row = [self.row_of_entity.index_select(0, each.flatten()).view(each.shape) for each in entities]
        if self.world_size == 1:
            lookup, place, route = Lookup(self.weight), row, None
        else:
            distinct, index = distinct_rows(torch.cat([each.flatten() for each in row]), len(self.row_of_entity))
            route = plan_route(distinct, self.block)
            lookup = Lookup(fetch_rows(self.weight, route))
            pieces = index.split([each.numel() for each in row])
            place = [piece.view(each.shape) for piece, each in zip(pieces, row, strict=True)]
        if torch.is_grad_enabled():
            self._lookups.append((lookup, route))
        return lookup, place

    def __call__(self, entity: Int64[Tensor, "*s"]) -> Float[Tensor, "*s D"]:
        """A copy of the rows of these entities, differentiable. Collective when partitioned."""
        lookup, (place,) = self.look_up(entity)
        return lookup.gather(place)

    def add_own_gradient(self, gradient: RowGradient) -> None:
        """Takes a gradient of rows of this rank's block that no look-up brought here, in float64; rows may repeat."""
        self._own.append(gradient)

    def take_gradient(self) -> RowGradient:
        """The gradient of all look-ups since the last call, summed at the rows' owner. Collective when partitioned."""
        lookups, self._lookups = self._lookups, []
        own, self._own = self._own, []
        if self.world_size == 1 and not own:
            sources = [source for lookup, _ in lookups for source in lookup.sources]
            return RowGradient.of(sources, self.weight)
        received = [(each.row, each.value) for each in own]
        for lookup, route in lookups:
            received.append(lookup.gradient(torch.float64) if route is None else self._receive(lookup, route))
        if not received:
            return RowGradient(*sum_rows([], self.weight, self.weight.dtype))
        # Most steps look up once, and then the largest tensor of the step need not be copied.
        row, value = received[0] if len(received) == 1 else map(torch.cat, zip(*received, strict=True))
        return RowGradient(*sum_occurrences(row, value, len(self.weight), self.weight.dtype))

    def _receive(self, lookup: Lookup, route: Route) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K D"]]:
        """The gradients that a look-up, on all ranks, gave this rank's rows; rows may repeat."""
        place, value = lookup.gradient(torch.float64)
        if len(place) < len(lookup.rows):  # rows that backward did not reach: their owners wait for them all the same
            value = value.new_zeros(lookup.rows.shape).index_copy_(0, place, value)
        return route.local_row, deliver_rows(value, route)

    def blocks(self, size: int) -> Iterator[tuple[int, Float[Tensor, "n D"]]]:
        """This rank's rows in pieces of `size`, as (first row, rows), without gradient."""
        for start in range(0, len(self.weight), size):
            yield start, self.weight[start : start + size]

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
