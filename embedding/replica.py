"""Replica: a copy of all rows of a table on each rank, for tables that fit into the memory of one.

Each rank still owns a part of the rows, with their optimiser state, and moves these alone. So the state takes no more
memory than of a partitioned table, and checkpoints, ranking and optimisers are the same. In a step a rank reads its
copy, which takes no exchange. Those that follow have sizes that everybody knows, so that no host waits for its GPU to
count rows: gradients of all rows go to their owners, with marks at those that were reached, and moved rows go to all.

Both are dense, whether few rows have a gradient or all. With E entities of D numbers in float32, a rank sends about
8 E D bytes of gradients in float64 and 4 E D of rows. The other way is to send each rank the gradients of the K rows
that another has looked up: 8 W K D bytes with W ranks, less if E is above 2/3 W K. On FB15k-237 (E 14,541) with
8 ranks of 512 positives, both sides and pools of 256, K is 1,536 and dense exchanges send 1.8 times as much; with
negatives of each positive's own, K is many times as large and they send less. They were chosen because they need no
sorting and no room for an unknown number of rows, and because the state and the work of an update stay divided by W:
with gathered gradients each rank would have to move all rows. Large tables stay partitioned.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.exchange import copy_of_all, sum_at_owners
from kernels.row_gradient import RowGradient
from kernels.row_sources import RowGradientSource, reached_rows
from kernels.row_sums import whole_sum


class Replica:
    """The copy that one rank has of all rows of a table. Every method is collective.

    Args:
        own: the rows that this rank owns, L of them.
        block: rows of a rank; the last ranks may own fewer.
    """

    def __init__(self, own: Float[Tensor, "L D"], block: int, world_size: int) -> None:
        self.rows: Float[Tensor, "R D"] = own.new_zeros((block * world_size, own.shape[1]))
        """The rows of all ranks, in their order; R = block x ranks, so the last ones may be of no entity."""
        self._block = block

    def update(self, own: Float[Tensor, "L D"]) -> None:
        """Takes the rows that each rank owns now."""
        if len(own) < self._block:
            own = torch.cat([own, own.new_zeros((self._block - len(own), own.shape[1]))])
        copy_of_all(own.contiguous(), self.rows)

    def gradient(
        self, sources: list[RowGradientSource], others: Sequence[RowGradient], own: Float[Tensor, "L D"]
    ) -> RowGradient:
        """The gradient of the rows that this rank owns, summed over ranks in float64 and rounded to their type.

        Args:
            sources: this rank's gradients of `rows`.
            others: further gradients of them, in float64.
            own: the rows that it owns.
        """
        value = whole_sum(sources, self.rows, torch.float64)
        reached = reached_rows(sources, len(self.rows), value.device)
        for each in others:
            value.index_add_(0, each.row, each.value)
            reached.index_fill_(0, each.row, True)
        value = sum_at_owners(value)[: len(own)].to(own.dtype)
        return RowGradient.of_whole(value, sum_at_owners(reached.int())[: len(own)] > 0)
