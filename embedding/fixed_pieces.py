"""Look-ups of partitioned rows in pieces of a fixed size, so that no host waits for its GPU to count rows.

A rank asks each owner in as many slots as it asks every other owner, and each rank has as many slots as every other. So
the ids, the rows that come back, and the gradients that follow have sizes that all hosts know. Slots that are left over
are padding: they ask for no row, and change none.

How many slots an owner gets follows from the shape of a look-up, see `slots_of_an_owner`. Rows that do not fit are left
out and marked on the device. What was computed without them is wrong, so the step is made again with more slots: see
`GlobalMeans`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int32, Int64, Shaped
from torch import Tensor

from embedding.exchange import to_each_rank
from kernels.gathered import sort_places

_NEVER = 36.0
"""Minus the logarithm of the bound on the probability that rows do not fit: e^-36 is 2e-16."""
_NO_ROW = -1


@dataclass(frozen=True)
class ChunkShare:
    """How many chunks of a global batch this rank has. The look-ups of a step are in proportion to it."""

    own: int
    most: int
    """Of the rank that has most."""


@dataclass(frozen=True)
class FixedRoute:
    """Which rows the ranks have asked this one for. Their gradients come back in the same slots."""

    asked: Int32[Tensor, " S"]
    """Indices in this rank's block, in equal parts by the rank that asks; -1: padding."""


def slots_of_an_owner(wanted: int, num_rows: int, block: int, factor: float = 1.0) -> int:
    """The slots that each rank has for each owner: factor * (m + t), rounded up, and never more than can be filled.

    Entities are placed at random. So of n distinct rows, an owner of a share p of the table has m = n p on average, and
    by Bernstein's inequality more than m + t, where t = a / 3 + sqrt(a^2 / 9 + 2 a m), with a probability below e^-a.
    (Rows are drawn without replacement, which makes it smaller.) a is 36.

    Args:
        wanted: rows that a rank looks up, of which some may be equal.
        num_rows: rows of the whole table.
        block: rows that an owner has.
        factor: 1, and twice as large after each step whose rows did not fit.
    """
    mean = min(wanted, num_rows) * block / max(num_rows, 1)
    slots = math.ceil(factor * (mean + _NEVER / 3 + math.sqrt(_NEVER**2 / 9 + 2 * _NEVER * mean)))
    return max(1, min(slots, wanted, block))


class FixedPieces:
    """The look-ups of one table in steps whose `share` is set. Look-ups and gradients are collective.

    Args:
        num_rows: rows of the whole table.
        block: rows that a rank owns; rank k owns [k * block, (k + 1) * block).
    """

    def __init__(self, num_rows: int, block: int, world_size: int) -> None:
        self.share: ChunkShare | None = None
        """Of the step that is made now; None: rows are exchanged with counts."""
        self.factor = 1.0
        """See `slots_of_an_owner`."""
        self._num_rows = num_rows
        self._block = block
        self._ranks = world_size
        self._missed: list[Bool[Tensor, ""]] = []

    def fetch(
        self, row: Int64[Tensor, " K"], weight: Shaped[Tensor, "L D"]
    ) -> tuple[Shaped[Tensor, "S D"], Int64[Tensor, " K"], FixedRoute]:
        """Asks the owners for rows.

        Args:
            row: rows of the whole table; they may repeat.
            weight: the rows that this rank owns.
        Returns:
            The rows of all slots, of which padding has any numbers; the slot of each wanted row; and the route that
            gradients go back by.
        """
        wanted, place, missed = self._slots(row)
        self._missed.append(missed)
        asked = to_each_rank(wanted)
        if len(weight):
            rows = weight.index_select(0, asked.clamp(min=0))
        else:  # all that it is asked for is padding
            rows = weight.new_zeros((len(asked), weight.shape[1]))
        return to_each_rank(rows), place, FixedRoute(asked)

    def take_missed(self) -> Bool[Tensor, ""] | None:
        """Whether rows did not fit in a look-up of this rank since the last call; None if there was no look-up."""
        missed, self._missed = self._missed, []
        return torch.stack(missed).any() if missed else None

    def widen(self) -> None:
        """Doubles the slots. All ranks must call it together."""
        self.factor *= 2
        self._missed = []

    def _slots(self, row: Int64[Tensor, " K"]) -> tuple[Int32[Tensor, " S"], Int64[Tensor, " K"], Bool[Tensor, ""]]:
        """The row of each slot, as its owner numbers it, or -1; the slot of each wanted row; whether rows do not fit.

        Nothing here needs a number from the device.
        """
        share, block, ranks = self.share, self._block, self._ranks
        assert share is not None
        most, rest = divmod(len(row) * share.most, share.own)
        # Other ranks would expect pieces of another size, and wait for ever or read nonsense.
        assert rest == 0, f"{len(row)} rows are looked up for {share.own} chunks, which is not the same number for each"
        slots = slots_of_an_owner(most, self._num_rows, block, self.factor)
        in_order, order = sort_places(row, block * ranks)
        number = in_order.diff(prepend=in_order[:1]).ne(0).cumsum(0)  # of the distinct row that each place has
        owner = in_order.div(block, rounding_mode="floor").long()
        first = torch.searchsorted(in_order, torch.arange(ranks, dtype=in_order.dtype, device=row.device) * block)
        within = number - number.index_select(0, first.index_select(0, owner))
        fits = within < slots
        slot = owner * slots + within
        end = ranks * slots  # one more slot, for what does not fit
        wanted = torch.full((end + 1,), _NO_ROW, dtype=torch.int32, device=row.device)
        wanted.index_copy_(0, torch.where(fits, slot, end), (in_order - owner * block).int())
        place = torch.empty_like(row).index_copy_(0, order, slot.clamp(max=end - 1))
        return wanted[:end], place, ~fits.all()
