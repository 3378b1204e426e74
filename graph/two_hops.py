"""Which entities are within two steps of each other in the train graph, whose triples are taken as undirected edges."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

_NEIGHBOURS_AT_ONCE = 1 << 22
"""Neighbours that are looked at together, beside the last one's of a piece: 100 MB or so."""


class TwoHops:
    """Neighbours of each entity, without itself; memory is that of the triples.

    The sets themselves are never written out, for around a hub they hold much of a graph.
    """

    def __init__(self, train: Int64[Tensor, "T 3"], num_entities: int, device: torch.device) -> None:
        head, tail = train[:, 0], train[:, 2]
        head, tail = head[head != tail], tail[head != tail]
        edge = torch.unique(torch.cat([head * num_entities + tail, tail * num_entities + head]))
        degree = torch.bincount(edge // num_entities, minlength=num_entities)
        self.num_entities = num_entities
        self.edge = edge.to(device)
        """anchor * num_entities + neighbour, ascending."""
        self.degree = degree.to(device)
        self.first = (degree.cumsum(0) - degree).to(device)

    def neighbour(self, entity: Int64[Tensor, "*s"], number: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """The neighbour of this number; whatever it may be where the entity has fewer."""
        place = (self.first[entity] + number).clamp(max=len(self.edge) - 1)
        return self.edge[place] % self.num_entities

    def step(self, entity: Int64[Tensor, "*s"], uniform: Float64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """A neighbour of each, all equally likely; an entity without neighbours stays."""
        degree = self.degree[entity]
        return torch.where(degree > 0, self.neighbour(entity, (uniform * degree).long()), entity)

    def contains(self, anchor: Int64[Tensor, " B"], entity: Int64[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Whether each entity is one or two steps from its anchor; the anchor itself is not."""
        one, other = anchor[:, None].expand(entity.shape).flatten(), entity.flatten()
        near = self._adjacent(one, other)
        # Two steps: a neighbour of whichever has fewer is a neighbour of the other.
        few = torch.where(self.degree[one] <= self.degree[other], one, other)
        many = one + other - few
        open_ = (~near & (one != other)).nonzero()[:, 0]
        for part in _pieces(open_, self.degree[few[open_]]):
            count = self.degree[few[part]]
            pair = part.repeat_interleave(count)
            number = torch.arange(len(pair), device=pair.device) - (count.cumsum(0) - count).repeat_interleave(count)
            between = self.neighbour(few[pair], number)
            near[pair[self._adjacent(many[pair], between)]] = True
        return near.view(entity.shape)

    def _adjacent(self, one: Int64[Tensor, " K"], other: Int64[Tensor, " K"]) -> Bool[Tensor, " K"]:
        edge = one * self.num_entities + other
        place = torch.searchsorted(self.edge, edge).clamp(max=len(self.edge) - 1)
        return self.edge[place] == edge


def _pieces(value: Int64[Tensor, " K"], work: Int64[Tensor, " K"]) -> tuple[Int64[Tensor, " _"], ...]:
    """Consecutive parts, each of about the work that is done together."""
    if not len(value):
        return ()
    sizes = torch.bincount(work.cumsum(0) // _NEIGHBOURS_AT_ONCE)
    return value.split(sizes.tolist())
