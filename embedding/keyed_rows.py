"""KeyedRows: one row of integers for each key, partitioned over ranks. Caches of negatives are stored in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from embedding.exchange import Route, deliver_rows, fetch_rows, plan_route, to_each_rank
from embedding.fixed_pieces import FixedPieces, FixedRoute
from embedding.free_memory import free_for_a_rank
from embedding.site import ModelSite
from graph.errors import InputError
from graph.permutation import permuted
from kernels.gathered import sort_places
from kernels.rows import distinct_rows
from kernels.shapes import INT32_MAX

_ORDER_OF_KEYS = 0
"""Chooses the permutation of keys. It is the same in all runs, so that the rows of a checkpoint lie where they did."""
_AT_ONCE = 1 << 20
"""Keys that are placed at a time: their numbers are int64, and what is kept of them is int32."""


@dataclass(frozen=True)
class KeyedLookup:
    """The rows of some keys, and the way to those who keep them, by which `KeyedRows.store` replaces them."""

    row: Int32[Tensor, "B width"]
    slot: Int64[Tensor, " B"]
    """Where the row of each key came from: one of the rows that this rank has asked for. Equal keys have one slot."""
    num_slots: int
    route: Route | FixedRoute | None
    """None: this rank keeps all rows, and slots are their places."""


class KeyedRows:
    """Rows of `width` integers below 2^31 for the keys 0 .. num_keys - 1; each rank owns an equal block of places.

    Rows are stored in int32, because caches are large. They start as zeros. Keys have random places, as entities have,
    so that ranks have equal work, and few rows are wanted of one rank alone: see `slots_of_an_owner`. Each rank has the
    place of every key, 4 bytes each.

    Args:
        name: what the rows are, and the options that decide how many there are, for the error.
        num_ids: the rows are ids from 0 to num_ids - 1, and rows of a checkpoint must be too; None: any integers.
    Raises:
        InputError: this rank's rows take more memory than is free, or there are too many for int32 to number them.

    Example:
        found = rows.look_up(key)  # key [B]; found.row [B, width]
        rows.store(found, order, found.row + 1)
    """

    def __init__(self, site: ModelSite, num_keys: int, width: int, *, name: str, num_ids: int | None = None) -> None:
        if num_keys > INT32_MAX:
            raise InputError(f"{name}: at most {INT32_MAX} rows can be numbered in int32, got {num_keys}")
        self.site = site
        self.num_keys = num_keys
        self.num_ids = num_ids
        self.block = -(-num_keys // site.world_size)
        self.first = min(site.rank * self.block, num_keys)
        """The place of this rank's first row."""
        last = min(self.first + self.block, num_keys)
        _require_room(name, 4 * ((last - self.first) * width + num_keys), site)
        self.key = _keys_of_places(self.first, last, num_keys).to(site.device)
        """The keys of this rank's rows."""
        self._place = _places_of_keys(num_keys).to(site.device)
        # One more row, for what must not be written: no host waits to know how many rows are.
        self._kept = torch.zeros((last - self.first + 1, width), dtype=torch.int32, device=site.device)
        self.row = self._kept[:-1]
        self.pieces = FixedPieces(num_keys, self.block, site.world_size)
        """Exchanges rows without counts on the host, in the steps that say so."""
        self.holds_back = False
        """In a step that may have to be made again: what is stored is written by `settle`, and not before."""
        self._held: list[tuple[Int64[Tensor, " K"], Int32[Tensor, "K width"]]] = []

    def look_up(self, key: Int64[Tensor, " B"]) -> KeyedLookup:
        """The rows of these keys. Keys may repeat. Collective when partitioned."""
        place = self._place.index_select(0, key).long()
        if self.site.world_size == 1:
            return KeyedLookup(self.row.index_select(0, place), place, len(self.row), None)
        if self.pieces.share is not None:
            rows, slot, in_slots = self.pieces.fetch(place, self.row)
            return KeyedLookup(rows.index_select(0, slot), slot, len(rows), in_slots)
        distinct, slot = distinct_rows(place, self.num_keys)
        route = plan_route(distinct, self.block)
        return KeyedLookup(fetch_rows(self.row, route).index_select(0, slot), slot, len(distinct), route)

    def fetch(self, key: Int64[Tensor, " B"]) -> Int64[Tensor, "B width"]:
        """The same, only the rows. Collective when partitioned."""
        return self.look_up(key).row.long()

    def store(self, found: KeyedLookup, order: Int64[Tensor, " B"], row: Int32[Tensor, "B width"]) -> None:
        """Replaces the rows of a look-up. Collective when partitioned.

        Args:
            order: if several rows are given for one key, on any ranks, the row with the smallest order is stored.
                The result is the same on any number of ranks if all orders in the global batch differ.
        """
        place = found.slot
        if found.route is not None:
            order, row = _first_of_each_slot(found, order, row)
            if isinstance(found.route, FixedRoute):
                place, order, row = found.route.asked.long(), to_each_rank(order), to_each_rank(row)
            else:
                place, order, row = found.route.local_row, *(deliver_rows(each, found.route) for each in (order, row))
        target = self._targets(place, order)
        if self.holds_back:
            self._held.append((target, row))
        else:
            self._kept.index_copy_(0, target, row)

    def _targets(self, place: Int64[Tensor, " K"], order: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
        """Where in `_kept` each row is written: the one of smallest order at its place, the others in the last row.

        Args:
            place: in this rank's block, several times if several ranks, or one rank alone, have a row for it; -1: none.
        """
        in_order, giver = sort_places(place, len(self.row))
        order = order.index_select(0, giver)
        number = in_order.diff(prepend=in_order[:1]).ne(0).cumsum(0)
        is_first = order == _least(order, number, len(order)).index_select(0, number)
        target = torch.where(is_first & (in_order >= 0), in_order.long(), len(self.row))
        return torch.empty_like(place).index_copy_(0, giver, target)

    def settle(self, good: Bool[Tensor, ""] | None) -> None:
        """Writes what was held back.

        Args:
            good: on the device, False: leave everything as it is; None: as if it were True.
        """
        held, self._held = self._held, []
        for target, row in held:
            kept = target if good is None else torch.where(good, target, len(self.row))
            self._kept.index_copy_(0, kept, row)

    def forget_held(self) -> None:
        """Does not write what was held back."""
        self._held = []


def _first_of_each_slot(
    found: KeyedLookup, order: Int64[Tensor, " B"], row: Int32[Tensor, "B width"]
) -> tuple[Int64[Tensor, " S"], Int32[Tensor, "S width"]]:
    """The smallest order of each slot, and its row; for a slot of no key any row."""
    least = _least(order, found.slot, found.num_slots)
    end = found.num_slots  # one more slot, for those that are not first
    slot = torch.where(order == least.index_select(0, found.slot), found.slot, end)
    number = torch.arange(len(order), device=order.device)
    giver = order.new_zeros(end + 1).index_copy_(0, slot, number)
    return least, row.index_select(0, giver[:end])


def _least(order: Int64[Tensor, " K"], group: Int64[Tensor, " K"], groups: int) -> Int64[Tensor, " G"]:
    """The smallest order of each group."""
    none = order.new_full((groups,), torch.iinfo(torch.int64).max)
    return none.scatter_reduce_(0, group, order, "amin")


def _keys_of_places(first: int, last: int, num_keys: int) -> Int64[Tensor, " L"]:
    return permuted(torch.arange(first, last), num_keys, _ORDER_OF_KEYS) if first < last else torch.empty(0).long()


def _places_of_keys(num_keys: int) -> Int32[Tensor, " K"]:
    place = torch.empty(num_keys, dtype=torch.int32)
    for first in range(0, num_keys, _AT_ONCE):
        last = min(first + _AT_ONCE, num_keys)
        place[_keys_of_places(first, last, num_keys)] = torch.arange(first, last, dtype=torch.int32)
    return place


def _require_room(name: str, size: int, site: ModelSite) -> None:
    free = free_for_a_rank(site.device)
    if size > free:
        raise InputError(
            f"{name} would take {size / 1e9:.1f} GB of memory on each rank, and {free / 1e9:.1f} GB are free"
        )
