"""Which entities are within two steps of each other in the train graph, whose triples are taken as undirected edges."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.neighbours import Neighbours

_NEIGHBOURS_AT_ONCE = 1 << 22
"""Neighbours that are looked at together, beside the last one's of a piece: 100 MB or so."""


class TwoHops(Neighbours):
    """Tells what is near; the sets themselves are never written out, for around a hub they hold much of a graph."""

    def contains(self, anchor: Int64[Tensor, " B"], entity: Int64[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Whether each entity is one or two steps from its anchor; the anchor itself is not."""
        one, other = anchor[:, None].expand(entity.shape).flatten(), entity.flatten()
        near = self.adjacent(one, other)
        # Two steps: a neighbour of whichever has fewer is a neighbour of the other.
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
    """Consecutive parts, each of about the work that is done together."""
    if not len(value):
        return ()
    sizes = torch.bincount(work.cumsum(0) // _NEIGHBOURS_AT_ONCE)
    return value.split(sizes.tolist())
