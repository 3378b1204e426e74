"""EmbeddingTable: the entity vectors, on one rank or partitioned over all ranks, with the same interface."""

from collections.abc import Callable, Iterator
from copy import copy

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from embedding.exchange import Route, fetch_rows, plan_route
from embedding.fixed_pieces import FixedPieces, FixedRoute
from embedding.huge_pages import ask_for_huge_pages
from embedding.initial import InitialValues
from embedding.lookup import Lookup
from embedding.open_lookups import OpenLookups
from embedding.replica import Replica
from embedding.rounding import Rounding, rounded_at_random
from embedding.storage import DiskStorage, spans
from graph.counter_random import combine, stream
from graph.errors import InputError
from graph.partition import EntityPlacement
from kernels.gpu.available import is_on_gpu
from kernels.library import usable
from kernels.row_gradient import RowGradient
from kernels.rows import distinct_rows
from kernels.shapes import INT32_MAX
from kernels.updates import Ball

_INITIAL_NUMBERS = 1 << 18
"""Initial values that are computed at a time. Their 64-bit words stay in the cache, and no new memory is asked for."""


class EmbeddingTable:
    """One row of `width` numbers for each entity; each rank owns an equal contiguous block of the placed rows.

    A step calls `look_up` with entity ids, computes a loss from the rows, runs backward, and calls `take_gradient`.
    With several ranks, a look-up sends each distinct row once, from its owner to the rank that wants it, and
    `take_gradient` sends the gradients back to the owners. A replicated table has all rows here: see `Replica`.
    Gradients are summed in float64 whatever the type of the rows: the order of a sum depends on the number of ranks,
    and in float64 the difference mostly vanishes when the sum is rounded to float32.

    Args:
        name: for errors, and part of the key of the initial values.
        width: numbers in a row.
        initial: the distribution of the initial values; None: zeros.
        dtype: what rows are computed with, and an optimiser's state.
        storage: keeps the rows on disk; None: they are in memory.
        rounding: rows are kept in bfloat16, and rounded so by `write`. Look-ups copy those that are wanted, as of
            other ranks' rows. None: they are kept in `dtype`.

    Example:
        lookup, (place,) = table.look_up(entity)  # entity [B, N]; lookup.rows[place] are its rows, [B, N, D]
        loss(lookup.gather(place)).backward()
        gradient = table.take_gradient()  # gradient.row [K], gradient.value [K, D]
    """

    def __init__(
        self,
        name: str,
        placement: EntityPlacement,
        width: int,
        *,
        rank: int,
        world_size: int,
        initial: InitialValues | None,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        storage: DiskStorage | None = None,
        rounding: Rounding | None = None,
    ) -> None:
        self.storage = storage
        self.rounding = rounding
        self.dtype = dtype
        self.seed = seed
        self.name = name
        self.width = width
        self.world_size = world_size
        self.block = placement.block_size(world_size)
        start, stop = placement.block(rank, world_size)
        self.row_of_entity = placement.row_of_entity.to(device)
        self.entity = placement.entity_of_row[start:stop].to(device)
        """The entity of each row of this rank's block."""
        kept = dtype if rounding is None else torch.bfloat16
        if storage is not None:
            self.weight = storage.rows(stop - start, width, kept)
        else:
            self.weight = _zeros(torch.empty((stop - start, width), dtype=kept, device=device))
        self.like = torch.empty((0, width), dtype=dtype, device=device)
        """No rows, of the type that look-ups give."""
        has_replica = placement.replicated and world_size > 1
        self.replica = Replica(self.weight, self.block, world_size) if has_replica else None
        """All rows, if each rank has a copy of them; None: it has those of its block, which may be all."""
        self.pieces = FixedPieces(len(self.row_of_entity), self.block, world_size)
        """Exchanges rows, if they are partitioned, without counts on the host, in the steps that say so."""
        self.entity_of_readable = placement.entity_of_row.to(device) if has_replica else self.entity
        """The entity of each row of `readable`."""
        self.maker: Callable[..., tuple[Lookup, list[Int64[Tensor, "..."]]]] | None = None
        """Looks up in place of this table, in a step whose rows an encoder makes one by one; None: nothing does."""
        self._start()
        if initial is not None:
            self._initialise(initial, stream(name, seed))

    def _start(self) -> None:
        self._lookups = OpenLookups(self.world_size if self._is_partitioned else 1, self.weight.device)
        self._own: list[RowGradient] = []

    def beside(self, name: str) -> "EmbeddingTable":
        """Another table of the same entities, which begins with the rows of this one and no look-ups."""
        table = copy(self)
        table.name = name
        table._start()
        return table

    def _initialise(self, initial: InitialValues, key: int) -> None:
        column = torch.arange(self.width, device=self.entity.device)
        size = max(1, _INITIAL_NUMBERS // max(1, self.width))
        for span in self.spans():
            for start in range(span.start, span.stop, size):
                rows = slice(start, min(start + size, span.stop))
                self.weight[rows] = initial(key, combine(self.entity[rows, None], column)).to(self.weight.dtype)

    def new_rows(self, width: int) -> Float[Tensor, "L W"]:
        """Zeros of `dtype` beside the rows of this rank's block, where these are: for an optimiser's state."""
        if self.storage is not None:
            return self.storage.rows(len(self.weight), width, self.dtype)
        return _zeros(self.like.new_empty((len(self.weight), width)))

    def spans(self, multiple: int = 1) -> Iterator[slice]:
        """This rank's rows, all at once; of a table on disk some at a time, see `DiskStorage.spans`."""
        return spans(self.storage, self.weight, multiple)

    def look_up(self, *entities: Int64[Tensor, "..."]) -> tuple[Lookup, list[Int64[Tensor, "..."]]]:
        """Looks up the rows of all these entities at once. Collective when partitioned.

        If gradients are on, the gradients of the rows are kept until `take_gradient`.

        Returns:
            The look-up, and for each tensor of entities a tensor of the same shape: the place of each entity's row in
            `Lookup.rows`. Ids may repeat.

        Raises:
            InputError: more than 2^31 - 1 ids are looked up, which the compiled kernels can't number.
        """
        if self.maker is not None:
            return self.maker(*entities)
        self._expect_few(entities)
        row = self._rows_of(entities)
        if not self._is_partitioned and self.rounding is None:
            rows = source = self.weight if self.replica is None else self.replica.rows
            place, route = row, None
        else:
            rows, index, route = self._fetch(torch.cat([each.flatten() for each in row]))
            source = self.weight
            pieces = index.split([each.numel() for each in row])
            place = [piece.view(each.shape) for piece, each in zip(pieces, row, strict=True)]
        if not torch.is_grad_enabled():
            return Lookup(rows, source), place
        return self._lookups.look_up(rows, source, route), place

    def _fetch(self, row: Int64[Tensor, " K"]) -> tuple[Float[Tensor, "U D"], Int64[Tensor, " K"], Route | FixedRoute]:
        """Copies of rows, the place of each wanted one among them, and the way they came. Collective if partitioned."""
        if self._is_partitioned and self.pieces.share is not None:
            rows, place, in_slots = self.pieces.fetch(row, self.weight)
            return rows.to(self.dtype), place, in_slots
        distinct, index = distinct_rows(row, len(self.row_of_entity))
        route = plan_route(distinct, self.block) if self._is_partitioned else _all_here(distinct)
        kept = fetch_rows(self.weight, route) if self._is_partitioned else self.weight.index_select(0, distinct)
        return kept.to(self.dtype), index, route

    def widen(self) -> None:
        """Gives look-ups more slots, after one whose rows did not fit, and forgets the look-ups. Collective."""
        self._lookups.take()
        self.pieces.widen()

    def _rows_of(self, entities: tuple[Int64[Tensor, "..."], ...]) -> list[Int64[Tensor, "..."]]:
        """The row of each entity, in tensors of the same shapes."""
        if not is_on_gpu(self.weight):
            return [self.row_of_entity.index_select(0, each.flatten()).view(each.shape) for each in entities]
        # On a GPU one kernel for all takes less time than one for each.
        row = self.row_of_entity.index_select(0, torch.cat([each.flatten() for each in entities]))
        pieces = row.split([each.numel() for each in entities])
        return [piece.view(each.shape) for piece, each in zip(pieces, entities, strict=True)]

    def _expect_few(self, entities: tuple[Int64[Tensor, "..."], ...]) -> None:
        wanted = sum(each.numel() for each in entities)
        if wanted > INT32_MAX and usable(self.like):
            raise InputError(
                f"one step looks up {wanted} rows of {self.name!r}, and at most {INT32_MAX} can be numbered in int32: "
                "take a smaller trainer.batch_size or fewer negatives"
            )

    def __call__(self, entity: Int64[Tensor, "*s"]) -> Float[Tensor, "*s D"]:
        """Copies of the rows of these entities; differentiable. Collective when partitioned."""
        lookup, (place,) = self.look_up(entity)
        return lookup.gather(place)

    def add_own_gradient(self, gradient: RowGradient) -> None:
        """Adds a float64 gradient of rows of `readable`, which were read without a look-up; rows may repeat."""
        self._own.append(gradient)

    def take_gradient(self) -> RowGradient:
        """The gradient of the rows that this rank owns, from all look-ups since the last call.

        Forgets the look-ups. Collective when partitioned: all ranks send their gradients to the owners.

        Returns:
            The rows that have a gradient, as indices into `weight`, and the summed gradient of each, in `dtype`.

        Raises:
            RuntimeError: the table has changed since one of the look-ups.
        """
        lookups = self._lookups.take()
        own, self._own = self._own, []
        reached = [each.reached for each in lookups if each.reached is not None]
        for lookup in reached:
            lookup.expect_unchanged()
        sources = [source for lookup in reached for source in lookup.sources]
        if self.replica is not None:
            return self.replica.gradient(sources, own, self.weight)
        if self.world_size == 1 and not own and self.rounding is None:
            return RowGradient.of(sources, self.weight)
        received = [(each.row, each.value) for each in own]
        if self.world_size == 1:
            received += [
                _of_table(each.route, *each.reached.gradient(torch.float64))
                for each in lookups
                if each.reached is not None
            ]
        for number, each in enumerate(lookups if self.world_size > 1 else []):
            parts = each.receive(self.like)
            # Most steps look up once: then the sums of all ranks are added where they are.
            stay = number == len(lookups) - 1 or isinstance(each.route, FixedRoute)
            received += parts if stay else [(row, value.clone()) for row, value in parts]
        if not received:
            return RowGradient.of([], self.like)
        padded = any(isinstance(each.route, FixedRoute) for each in lookups)
        return RowGradient.of_parts(received, len(self.weight), self.dtype, padded=padded)

    @property
    def _is_partitioned(self) -> bool:
        """Whether this rank must ask others for rows."""
        return self.world_size > 1 and self.replica is None

    @property
    def readable(self) -> Float[Tensor, "R D"]:
        """The rows that this rank can read without asking others, as kept: part k of P, see `ModelSite.part`."""
        return self.weight if self.replica is None else self.replica.rows[: len(self.row_of_entity)]

    def write(self, row: Int64[Tensor, " K"], value: Float[Tensor, "K D"], step: int) -> None:
        """Replaces rows of this rank's block, of a table with `rounding`, by rows in `dtype`.

        Args:
            row: indices into `weight`; one that repeats has the same value each time.
            step: the number of the optimiser's step; part of the key of random numbers.
        """
        if self.rounding == Rounding.STOCHASTIC:
            value = rounded_at_random(value, stream(f"{self.name} rounding", self.seed, step), self.entity[row])
        self.weight[row] = value.to(self.weight.dtype)

    def clip_(self, ball: Ball) -> None:
        """Scales all rows of this rank back to the ball, as initial values need it."""
        if self.rounding is None:
            for span in self.spans():
                ball.clip_(self.weight[span])
        elif ball.max_norm is not None:
            for start, rows in self.blocks(max(1, _INITIAL_NUMBERS // max(1, self.width))):
                ball.clip_(rows)
                self.weight[start : start + len(rows)] = rows.to(self.weight.dtype)

    def replicate(self) -> None:
        """Gives each rank the rows that others own, if the table is replicated. Collective."""
        if self.replica is not None:
            self.replica.update(self.weight)

    def blocks(self, size: int) -> Iterator[tuple[int, Float[Tensor, "n D"]]]:
        """Pairs (index of the first row, [n, D] rows in `dtype`): this rank's own, `size` at a time, without gradient.

        Raises:
            RuntimeError: in a step whose rows are made one by one, so that there are none of all entities.
        """
        if self.maker is not None:
            raise RuntimeError(f"{self.name!r}: a step with sampled neighbourhoods has no rows of all entities")
        for span in self.spans(size):
            for start in range(span.start, span.stop, size):
                yield start, self.weight[start : min(start + size, span.stop)].to(self.dtype)

    def readable_blocks(self, size: int) -> Iterator[tuple[int, Float[Tensor, "n D"]]]:
        """The same of the rows of `readable`."""
        if self.replica is None:
            yield from self.blocks(size)
        else:
            yield from ((size * number, rows) for number, rows in enumerate(self.readable.split(size)))

    def gather_all(self, local: Shaped[Tensor, "L *d"]) -> Shaped[Tensor, "E *d"]:
        """Gathers a tensor with one row per table row from all ranks, in the order of entity ids. Collective
        when partitioned.

        Every rank then holds all E rows, so this is for small graphs, export and tests.
        """
        if self.world_size > 1:
            padded = local.new_zeros((self.block, *local.shape[1:]))
            padded[: len(local)] = local
            pieces = [torch.empty_like(padded) for _ in range(self.world_size)]
            dist.all_gather(pieces, padded)
            local = torch.cat(pieces)
        return local[self.row_of_entity]


def _all_here(row: Int64[Tensor, " K"]) -> Route:
    """The route of rows that are all of this rank: nothing is sent."""
    return Route([len(row)], [len(row)], row)


def _of_table(
    route: Route | FixedRoute | None, place: Int64[Tensor, " K"], value: Float[Tensor, "K D"]
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K D"]]:
    """The gradient of rows of the table, from that of places in a look-up on one rank; no route: they are the same."""
    return (route.local_row[place] if isinstance(route, Route) else place), value


def _zeros(rows: Float[Tensor, "L W"]) -> Float[Tensor, "L W"]:
    """New memory, filled with zeros after it was asked for in huge pages: later it would stay in small ones."""
    ask_for_huge_pages(rows)
    return rows.zero_()
