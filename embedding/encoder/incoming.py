"""The edges into some entities: all of them, or a sample; without those of a training step's positives."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from embedding.encoder.edges import Edges
from embedding.encoder.facts import TrainFacts
from graph.batch import Batch
from graph.counter_random import combine, paired_uniform, stream


class IncomingEdges:
    """All distinct train facts as edges in both directions, in the order (destination, relation, source).

    Each rank has all of them, about 80 bytes for each fact.

    Args:
        facts: of train.
    """

    def __init__(self, facts: TrainFacts) -> None:
        count, entities, relations = len(facts), facts.num_entities, facts.num_relations
        into = torch.cat([facts.tail, facts.head])
        group = into * (2 * relations) + torch.cat([facts.relation, facts.relation + relations])
        key, order = (group * entities + torch.cat([facts.head, facts.tail])).sort()
        self.facts = facts
        self.source: Int32[Tensor, " 2*F"] = (key % entities).int()
        self.relation: Int32[Tensor, " 2*F"] = (key // entities % (2 * relations)).int()
        """r for (head, r, tail), from head to tail; r + R for its inverse, from tail to head."""
        self.start: Int64[Tensor, " E+1"] = _starts(torch.bincount(into, minlength=entities))
        """The edges into entity e are those from start[e] to start[e + 1] - 1."""
        _, group, size = torch.unique_consecutive(key // entities, return_inverse=True, return_counts=True)
        self.group: Int32[Tensor, " 2*F"] = group.int()
        """The number of the edge's pair (destination, relation), ascending."""
        self.group_size: Int64[Tensor, " G"] = size
        place = torch.empty_like(order)
        place[order] = torch.arange(2 * count, device=order.device)
        self.of_fact: Int64[Tensor, "2 F"] = place.view(2, count)
        """The places of each fact's edge and of its inverse."""
        self.as_head: Int64[Tensor, " E"] = torch.bincount(facts.head, minlength=entities)
        self.as_tail: Int64[Tensor, " E"] = torch.bincount(facts.tail, minlength=entities)

    def all(self) -> "KeptEdges":
        """The edges of all train facts."""
        return KeptEdges.without(self, self.start[:0])

    def without(self, batch: Batch) -> "KeptEdges":
        """The edges without those that a step leaves out, and their inverses.

        Args:
            batch: the global batch; see `TrainFacts.left_out`.
        """
        return KeptEdges.without(self, self.facts.left_out(batch))


@dataclass(frozen=True)
class Draw:
    """How a layer of a training step draws edges: a function of (seed, epoch, first chunk, layer, entity) alone."""

    key: int
    chunk: Int64[Tensor, ""]
    """The first chunk of the global batch."""
    fanout: int
    """The most edges into an entity that are drawn."""

    @classmethod
    def of(cls, name: str, batch: Batch, layer: int, fanout: int) -> "Draw":
        """The draws of a model's encoder; `batch` is the global batch."""
        return cls(stream(f"{name} encoder neighbours", batch.seed, batch.epoch, layer), batch.chunk.min(), fanout)

    def subsets(self, entity: Int64[Tensor, " D"], degree: Int64[Tensor, " D"]) -> Int64[Tensor, "D fanout"]:
        """For each entity a uniform subset of 0 ... degree - 1, ascending; every degree must be above `fanout`.

        By Floyd's algorithm (Bentley and Floyd, A sample of brilliance, Communications of the ACM 30(9), 1987), whose
        cost does not depend on the degree.
        """
        uniform = paired_uniform(self.key, combine(self.chunk, entity), self.fanout)
        chosen = torch.empty_like(uniform, dtype=torch.int64)
        for slot in range(self.fanout):
            last = degree - self.fanout + slot
            drawn = (uniform[:, slot] * (last + 1)).long()
            is_there = (chosen[:, :slot] == drawn[:, None]).any(1)
            chosen[:, slot] = torch.where(is_there, last, drawn)
        return chosen.sort(1).values


@dataclass(frozen=True)
class KeptEdges:
    """The edges that are not left out; all degrees and weights are exact for these."""

    edges: IncomingEdges
    left_out: Int64[Tensor, " X"]
    """Places of edges that are left out, ascending."""
    left_out_group: Int64[Tensor, " X"]
    """Their pairs (destination, relation), ascending."""
    as_head: Int64[Tensor, " E"]
    """For each entity, the number of facts that have it as head."""
    as_tail: Int64[Tensor, " E"]

    @classmethod
    def without(cls, edges: IncomingEdges, fact: Int64[Tensor, " Y"]) -> "KeptEdges":
        """Leaves out the edges of these facts, by their numbers, each given once."""
        left_out = edges.of_fact[:, fact].flatten().sort().values
        less = -torch.ones_like(fact)
        as_head = edges.as_head.index_add(0, edges.facts.head[fact], less)
        as_tail = edges.as_tail.index_add(0, edges.facts.tail[fact], less)
        return cls(edges, left_out, edges.group[left_out].long(), as_head, as_tail)

    def into(self, entity: Int64[Tensor, " D"], draw: Draw | None, dtype: torch.dtype) -> Edges:
        """The edges into some entities, in the order of these, then of (relation, source).

        If an entity has more edges than `draw.fanout`, so many are drawn without replacement, each with probability
        fanout / edges; and the weights of these are divided by it. So sums of weighted messages are on average the sums
        over all edges (Horvitz and Thompson, A generalization of sampling without replacement from a finite universe,
        Journal of the American Statistical Association 47, 1952).

        Args:
            draw: None: all edges are taken.
            dtype: of the weights.
        Returns:
            Edges whose `destination` counts `entity`, and whose `source` is an entity, not yet a place.
        """
        edges = self.edges
        first, before = edges.start[entity], torch.searchsorted(self.left_out, edges.start[entity])
        after = torch.searchsorted(self.left_out, edges.start[entity + 1])
        degree = edges.start[entity + 1] - first - (after - before)
        taken = degree if draw is None else degree.clamp(max=draw.fanout)
        into = torch.arange(len(entity), device=entity.device).repeat_interleave(taken)
        # The number of the edge among those that are kept, from 0 for each entity.
        number = torch.arange(len(into), device=entity.device) - _starts(taken)[:-1][into]
        if draw is not None and bool((chosen := degree > draw.fanout).any()):
            number[chosen[into]] = draw.subsets(entity[chosen], degree[chosen]).flatten()
        # The edge with this number lies behind those left out: of these, number i (ascending) has left_out[i] - i kept
        # edges before it.
        kept_before = self.left_out - torch.arange(len(self.left_out), device=entity.device)
        number = number + first[into]
        skipped = torch.searchsorted(kept_before, number - before[into], right=True) - before[into]
        place = number + skipped
        scale = degree.double() / taken
        source, relation = edges.source[place].long(), edges.relation[place].long()
        weights = (
            self._symmetric(source, relation, entity[into]),
            self._per_relation(place),
            1 / degree.double()[into],
        )
        weighted = [(weight * scale[into]).to(dtype) for weight in weights]
        return Edges(into, source, relation, *weighted)

    def _symmetric(
        self, source: Int64[Tensor, " M"], relation: Int64[Tensor, " M"], into: Int64[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        forwards = relation < self.edges.facts.num_relations
        head, tail = torch.where(forwards, source, into), torch.where(forwards, into, source)
        return (self.as_head[head] * self.as_tail[tail]).double().rsqrt()

    def _per_relation(self, place: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
        group = self.edges.group[place].long()
        left_out = torch.searchsorted(self.left_out_group, group, right=True)
        left_out -= torch.searchsorted(self.left_out_group, group)
        return 1 / (self.edges.group_size[group] - left_out).double()


def _starts(size: Int64[Tensor, " K"]) -> Int64[Tensor, " K+1"]:
    """Where each of K parts of these sizes starts, and where the last one ends."""
    return torch.cat([size.new_zeros(1), size.cumsum(0)])
