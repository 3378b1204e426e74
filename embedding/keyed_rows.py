"""KeyedRows: a row of integers for each key, partitioned over ranks as a table is; what caches of negatives live in."""

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from embedding.exchange import deliver_rows, fetch_rows, plan_route
from embedding.model import ModelSite
from kernels.rows import distinct_rows


class KeyedRows:
    """Rows of integers below 2^31 for the keys 0 .. num_keys - 1; each rank owns an equal contiguous block of them.

    Kept in int32, half of what ids take elsewhere, for caches are large.
    """

    def __init__(self, site: ModelSite, num_keys: int, width: int) -> None:
        self.site = site
        self.num_keys = num_keys
        self.block = -(-num_keys // site.world_size)
        self.first = min(site.rank * self.block, num_keys)
        last = min(self.first + self.block, num_keys)
        self.key = torch.arange(self.first, last, device=site.device)
        """The keys of this rank's rows."""
        self.row = torch.zeros((last - self.first, width), dtype=torch.int32, device=site.device)

    def fetch(self, key: Int64[Tensor, " B"]) -> Int64[Tensor, "B width"]:
        """The rows of these keys, which may repeat. Collective when partitioned."""
        if self.site.world_size == 1:
            return self.row[key].long()
        distinct, place = distinct_rows(key, self.num_keys)
        return fetch_rows(self.row, plan_route(distinct, self.block))[place].long()

    def store(self, key: Int64[Tensor, " B"], order: Int64[Tensor, " B"], row: Int64[Tensor, "B width"]) -> None:
        """Replaces rows. Collective when partitioned.

        Args:
            order: of several rows for one key, on whatever ranks, the one whose order is least is kept; distinct
                numbers, a function of the global batch alone, make that the same at every number of ranks.

        Raises:
            OverflowError: a number does not fit int32.
        """
        row = _as_int32(row)
        if self.site.world_size > 1:
            by_key = key.argsort()
            route = plan_route(key[by_key], self.block)
            key = route.local_row
            order, row = deliver_rows(order[by_key, None], route)[:, 0], deliver_rows(row[by_key], route)
        place = order.argsort()
        place = place[key[place].argsort(stable=True)]
        key = key[place]
        kept = torch.ones_like(key, dtype=torch.bool)
        kept[1:] = key[1:] != key[:-1]  # the first of each key has its least order
        self.row[key[kept]] = row[place[kept]]


def _as_int32(row: Int64[Tensor, "B width"]) -> Int32[Tensor, "B width"]:
    narrow = row.int()
    if not narrow.long().equal(row):
        wrong = row[narrow.long() != row][0]
        raise OverflowError(f"rows of int32 can't hold {int(wrong)}")
    return narrow
