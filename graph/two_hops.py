"""Tests whether entities are within two steps in the train graph, taking triples as undirected edges."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.neighbours import Neighbours

_NEIGHBOURS_AT_ONCE = 1 << 22
"""Neighbours compared at a time, about 100 MB; the last pair of a part may exceed it."""


class TwoHops(Neighbours):
    """Tests pairs without storing the sets of entities within two steps, which hold much of the graph around hubs."""

    def contains(self, anchor: Int64[Tensor, " B"], entity: Int64[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Whether entity[b, n] is one or two steps from anchor[b]; False for the anchor itself."""
        one, other = anchor[:, None].expand(entity.shape).flatten(), entity.flatten()
        near = self.adjacent(one, other)
        # Two steps: some neighbour of one is also a neighbour of the other. Go through those of the smaller degree.
        few = torch.where(self.degree[one] <= self.degree[other], one, other)
        many = one + other - few
        open_ = (~near & (one != other)).nonzero()[:, 0]
        for part in _pieces(open_, self.degree[few[open_]]):
            count = self.degree[few[part]]
            pair = part.repeat_interleave(count)
            number = torch.arange(len(pair), device=pair.device) - (count.cumsum(0) - count).repeat_interleave(count)
            between = self.neighbour(few[pair], number)
            near[pair[self.adjacent(many[pair], between)]] = True
        return near.view(entity.shape)


def _pieces(value: Int64[Tensor, " K"], work: Int64[Tensor, " K"]) -> tuple[Int64[Tensor, " _"], ...]:
    """Splits `value` into consecutive parts of about `_NEIGHBOURS_AT_ONCE` work each."""
    if not len(value):
        return ()
    sizes = torch.bincount(work.cumsum(0) // _NEIGHBOURS_AT_ONCE)
    return value.split(sizes.tolist())
