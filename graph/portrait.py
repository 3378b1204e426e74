"""What can be said of a graph before it is trained on: sizes, leaks, kinds of relations, degrees of entities."""

from dataclasses import dataclass

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from graph.format.source import SPLITS
from graph.knowledge_graph import KnowledgeGraph
from graph.leaks import count_repeated, count_reversed
from graph.statistics import Cardinality, RelationStatistics

_MOST_CONNECTED = 10


@dataclass(frozen=True)
class SplitLeaks:
    """Triples (h, r, t) of valid or test that train has in another form. One triple may count in several."""

    reversed: int
    """Train has (t, r', h) with another relation r', such as an inverse."""
    mirrored: int
    """Train has (t, r, h) with the same relation, as of a symmetric one; h and t differ."""
    other_relation: int
    """Train has (h, r', t) with another relation r'."""

    @classmethod
    def of(cls, triples: Int64[Tensor, "T 3"], train: Int32[Tensor, "train 3"]) -> "SplitLeaks":
        """Counts the leaks of a split."""
        flipped = triples.flip(1)
        differ = triples[:, 0] != triples[:, 2]
        return cls(
            reversed=count_reversed(triples, train),
            mirrored=count_repeated(flipped[differ], train),
            other_relation=count_reversed(flipped, train),
        )


@dataclass(frozen=True)
class RelationRow:
    """A relation: its number of triples in each split, and what its train triples are like."""

    name: str
    train: int
    valid: int
    test: int
    cardinality: str
    """1-1, 1-N, N-1 or N-N."""
    tails_per_head: float
    heads_per_tail: float
    heads: int
    """Number of different heads in train."""
    tails: int


@dataclass(frozen=True)
class Degrees:
    """How often entities are head or tail of a train triple."""

    least: int
    median: int
    """The lower one of the two in the middle."""
    mean: float
    most: int
    counts: list[tuple[int, int, int]]
    """(from, to, number of entities) of each range of degrees: 0, 1, 2 to 3, 4 to 7 ..."""
    most_connected: list[tuple[str, int]]
    """The entities of highest degree, by name, with their degree."""


@dataclass(frozen=True)
class Portrait:
    """The statistics of a graph; see `portrait_of`."""

    entities: int
    relations: int
    triples: dict[str, int]
    """By split."""
    leaks: dict[str, SplitLeaks]
    """Of valid and test, where there are any triples."""
    uncovered: dict[str, int]
    """Valid and test triples with an entity or a relation that train lacks."""
    degrees: Degrees
    relation: list[RelationRow]
    """Those with most train triples first."""

    @property
    def cardinality(self) -> dict[str, dict[str, int]]:
        """For each class of relations its number of relations and of triples in each split."""
        classes = {str(kind): [each for each in self.relation if each.cardinality == kind] for kind in Cardinality}
        return {
            kind: {"relations": len(rows)} | {split: sum(getattr(each, split) for each in rows) for split in SPLITS}
            for kind, rows in classes.items()
        }


def portrait_of(graph: KnowledgeGraph) -> Portrait:
    """The statistics of a graph whose triples are distinct."""
    statistics = RelationStatistics.of_facts(graph.known, graph.num_entities)
    splits = {split: triples for split in SPLITS if len(triples := getattr(graph, split))}
    held_out = {split: triples for split, triples in splits.items() if split != "train"}
    return Portrait(
        entities=graph.num_entities,
        relations=graph.num_relations,
        triples={split: len(triples) for split, triples in splits.items()},
        leaks={split: SplitLeaks.of(triples, graph.train) for split, triples in held_out.items()},
        uncovered={split: _uncovered(triples, statistics) for split, triples in held_out.items()},
        degrees=_degrees(graph, statistics),
        relation=_relations(graph, statistics),
    )


def _uncovered(triples: Int64[Tensor, "T 3"], statistics: RelationStatistics) -> int:
    entity, relation = statistics.entity_degree == 0, statistics.relation_triples == 0
    return int((entity[triples[:, 0]] | relation[triples[:, 1]] | entity[triples[:, 2]]).sum())


def _degrees(graph: KnowledgeGraph, statistics: RelationStatistics) -> Degrees:
    degree = statistics.entity_degree
    bits = torch.floor(torch.log2(degree.double().clamp(min=0.5))).long() + 1  # 0 for 0, 1 for 1, 2 for 2 to 3, ...
    counts = [(2**bit // 2, max(2**bit - 1, 0), count) for bit, count in enumerate(torch.bincount(bits).tolist())]
    top = degree.sort(descending=True, stable=True).indices[:_MOST_CONNECTED].tolist()
    return Degrees(
        least=int(degree.min()),
        median=int(degree.median()),
        mean=float(degree.double().mean()),
        most=int(degree.max()),
        counts=[each for each in counts if each[2]],
        most_connected=[(graph.entity_names[int(entity)], int(degree[entity])) for entity in top],
    )


def _relations(graph: KnowledgeGraph, statistics: RelationStatistics) -> list[RelationRow]:
    count = {
        split: torch.bincount(getattr(graph, split)[:, 1], minlength=graph.num_relations).tolist() for split in SPLITS
    }
    heads, tails = statistics.domain_offset.diff().tolist(), statistics.range_offset.diff().tolist()
    per_head, per_tail = statistics.tails_per_head.tolist(), statistics.heads_per_tail.tolist()
    rows = [
        RelationRow(
            name=graph.relation_names[number],
            **{split: count[split][number] for split in SPLITS},
            cardinality=str(statistics.cardinality[number]),
            tails_per_head=per_head[number],
            heads_per_tail=per_tail[number],
            heads=heads[number],
            tails=tails[number],
        )
        for number in range(graph.num_relations)
    ]
    return sorted(rows, key=lambda row: (-row.train, row.name))
