"""The look-ups of a table that may still get a gradient, and the way of their gradients to the owners of the rows."""

import weakref

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.exchange import Route, add_over_ranks, deliver_parts, room_to_deliver, to_each_rank
from embedding.fixed_pieces import FixedRoute
from embedding.lookup import Lookup
from kernels.gpu.available import is_on_gpu

_MANY = 16
"""More look-ups without a gradient than any step makes. Beyond it the ranks agree which of them can be dropped."""


class OpenLookup:
    """A look-up that may get a gradient: a weak reference until its first gradient arrives, then a strong one.

    Args:
        num_rows: rows that it copied, D numbers each.
        route: how they came from their owners; None: they were read where they are.
    """

    def __init__(self, num_rows: int, route: Route | FixedRoute | None) -> None:
        self.num_rows = num_rows
        self.route = route
        self.reached: Lookup | None = None
        """The look-up, once it has a gradient; None before."""
        self._lookup: weakref.ref[Lookup] | None = None

    def look_up(self, rows: Float[Tensor, "U D"], table: Float[Tensor, "L D"]) -> Lookup:
        """Makes the look-up."""
        lookup = Lookup(rows, table, keep=self._keep)
        self._lookup = weakref.ref(lookup)
        return lookup

    def is_over(self) -> bool:
        """True if it has no gradient and its scores are gone, so that it can't get one."""
        return self.reached is None and (self._lookup is None or self._lookup() is None)

    def _keep(self, lookup: Lookup) -> None:
        self.reached = lookup

    def receive(self, like: Float[Tensor, "_ D"]) -> list[tuple[Int64[Tensor, " _"], Float[Tensor, "_ D"]]]:
        """The gradients that all ranks have of this rank's rows, in parts; rows may repeat, and row -1 is padding.

        Collective. Each part is there until the next exchange.

        Args:
            like: any rows of the table, for the device and the width.
        """
        assert self.route is not None
        shape = self.num_rows, like.shape[1]
        if self.reached is None:
            value = like.new_zeros(shape, dtype=torch.float64)
        elif is_on_gpu(like) or isinstance(self.route, FixedRoute):  # the host does not wait for a count
            value = self.reached.whole_gradient(torch.float64)
        else:
            place, value = self.reached.gradient(torch.float64, room_to_deliver)
            # Owners expect a gradient of every row that was looked up: zeros where backward gave none.
            if len(place) < self.num_rows:
                value = value.new_zeros(shape).index_copy_(0, place, value)
        if isinstance(self.route, FixedRoute):
            return [(self.route.asked.long(), to_each_rank(value))]
        return deliver_parts(value, self.route)


class OpenLookups:
    """The look-ups of one table since its gradient was last taken.

    Args:
        ranks: that exchange its rows; 1: this one has all of them.
        device: of the table.
    """

    def __init__(self, ranks: int, device: torch.device) -> None:
        self._open: list[OpenLookup] = []
        self._ranks = ranks
        self._device = device
        self._many = _MANY

    def __len__(self) -> int:
        return len(self._open)

    def look_up(
        self, rows: Float[Tensor, "U D"], table: Float[Tensor, "L D"], route: Route | FixedRoute | None
    ) -> Lookup:
        """Makes a look-up; see `Lookup` and `OpenLookup`. Collective if ranks exchange rows, now and then."""
        self._forget_unused()
        self._open.append(made := OpenLookup(len(rows), route))
        return made.look_up(rows, table)

    def take(self) -> list[OpenLookup]:
        """All of them, which are forgotten here."""
        taken, self._open = self._open, []
        return taken

    def _forget_unused(self) -> None:
        """Drops look-ups whose scores are gone without a backward, so that they do not pile up.

        Collective if ranks exchange rows and there are many: a look-up is dropped when no rank can give it a gradient.
        """
        if self._ranks > 1 and len(self._open) < self._many:
            return
        over = [int(each.is_over()) for each in self._open]
        if self._ranks > 1:
            over = add_over_ranks(torch.tensor(over, device=self._device)).tolist()
        self._open = [each for each, ranks in zip(self._open, over, strict=True) if ranks < self._ranks]
        self._many = max(_MANY, 2 * len(self._open))
