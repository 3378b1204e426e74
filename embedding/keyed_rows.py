"""KeyedRows: one row of integers for each key, partitioned over ranks. Caches of negatives are stored in it."""

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from embedding.exchange import deliver_rows, fetch_rows, plan_route
from embedding.free_memory import free_for_a_rank
from embedding.site import ModelSite
from graph.errors import InputError
from kernels.rows import distinct_rows


class KeyedRows:
    """Rows of `width` integers below 2^31 for the keys 0 .. num_keys - 1; each rank owns an equal block of keys.

    Rows are stored in int32, because caches are large. They start as zeros.

    Args:
        name: what the rows are, and the options that decide how many there are, for the error.
        num_ids: the rows are ids from 0 to num_ids - 1, and rows of a checkpoint must be too; None: any integers.
    Raises:
        InputError: this rank's rows take more memory than is free.
    """

    def __init__(self, site: ModelSite, num_keys: int, width: int, *, name: str, num_ids: int | None = None) -> None:
        self.site = site
        self.num_keys = num_keys
        self.num_ids = num_ids
        self.block = -(-num_keys // site.world_size)
        self.first = min(site.rank * self.block, num_keys)
        last = min(self.first + self.block, num_keys)
        _require_room(name, 4 * (last - self.first) * width, site)
        self.key = torch.arange(self.first, last, device=site.device)
        """The keys of this rank's rows."""
        self.row = torch.zeros((last - self.first, width), dtype=torch.int32, device=site.device)

    def fetch(self, key: Int64[Tensor, " B"]) -> Int64[Tensor, "B width"]:
        """The rows of these keys. Keys may repeat. Collective when partitioned."""
        if self.site.world_size == 1:
            return self.row[key].long()
        distinct, place = distinct_rows(key, self.num_keys)
        return fetch_rows(self.row, plan_route(distinct, self.block))[place].long()

    def store(self, key: Int64[Tensor, " B"], order: Int64[Tensor, " B"], row: Int64[Tensor, "B width"]) -> None:
        """Replaces rows. Collective when partitioned.

        Args:
            order: if several rows are given for one key, on any ranks, the row with the smallest order is stored.
                The result is the same on any number of ranks if all orders in the global batch differ.

        Raises:
            OverflowError: a number does not fit int32, which is looked for unless rows are ids.
        """
        row = _as_int32(row) if self.num_ids is None else row.int()
        if self.site.world_size > 1:
            by_key = key.argsort()
            route = plan_route(key[by_key], self.block)
            key = route.local_row
            order, row = deliver_rows(order[by_key, None], route)[:, 0], deliver_rows(row[by_key], route)
        place = order.argsort()
        place = place[key[place].argsort(stable=True)]
        key = key[place]
        # The first row of each key has the smallest order. It is stored as often as the key occurs: to keep only the
        # first of them, a GPU would have to tell the host how many there are.
        number = torch.arange(len(key), device=key.device)
        number[1:].masked_fill_(key[1:] == key[:-1], 0)
        self.row[key] = row[place[number.cummax(0).values]]


def _require_room(name: str, size: int, site: ModelSite) -> None:
    free = free_for_a_rank(site.device)
    if size > free:
        raise InputError(
            f"{name} would take {size / 1e9:.1f} GB of memory on each rank, and {free / 1e9:.1f} GB are free"
        )


def _as_int32(row: Int64[Tensor, "B width"]) -> Int32[Tensor, "B width"]:
    narrow = row.int()
    if not narrow.long().equal(row):
        wrong = row[narrow.long() != row][0]
        raise OverflowError(f"rows of int32 can't hold {int(wrong)}")
    return narrow
