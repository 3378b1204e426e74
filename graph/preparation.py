"""Prepares triples for training: each once, in splits without leaks, without names that train does not have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.distinct import distinct, numbered_by_name
from graph.knowledge_graph import KnowledgeGraph
from graph.leaks import are_repeated
from graph.splitting import split_triples


@dataclass(frozen=True)
class Removed:
    """Counts of triples that were read and are not in the prepared graph."""

    duplicates: int
    """Repetitions inside the triples, or inside each split."""
    repeated_valid: int
    """Valid triples that train has."""
    repeated_test: int
    """Test triples that train or valid has."""
    uncovered_valid: int
    """Valid triples with an entity or a relation that train lacks."""
    uncovered_test: int


def keep_splits(graph: KnowledgeGraph, *, covered: bool) -> tuple[KnowledgeGraph, Removed]:
    """The graph with its splits, without repeated triples; each split sorted by name.

    Args:
        covered: also leave out valid and test triples with an entity or a relation that train lacks.
    """
    graph = numbered_by_name(graph)
    splits = [distinct(triples) for triples in (graph.train.long(), graph.valid, graph.test)]
    duplicates = len(graph.train) + len(graph.valid) + len(graph.test) - sum(map(len, splits))
    train, valid, test = splits
    new_valid = valid[~are_repeated(valid, train)]
    new_test = test[~(are_repeated(test, train) | are_repeated(test, valid))]
    repeated = len(valid) - len(new_valid), len(test) - len(new_test)
    seen = _Seen.of(graph, train)
    valid, test = ((each[seen.all_of(each)] if covered else each) for each in (new_valid, new_test))
    removed = Removed(duplicates, *repeated, len(new_valid) - len(valid), len(new_test) - len(test))
    return numbered_by_name(replace(graph, train=train, valid=valid, test=test)), removed


def make_splits(
    graph: KnowledgeGraph, *, ratio: Sequence[float], seed: int, covered: bool, together: bool
) -> tuple[KnowledgeGraph, Removed]:
    """The graph with its train triples split anew; see `split_triples` for the options. It has no other split.

    The result is a function of the set of triples, by name, and the options: the order of lines does not matter.
    """
    graph = numbered_by_name(graph)
    triples = distinct(graph.train.long())
    removed = Removed(len(graph.train) - len(triples), 0, 0, 0, 0)
    train, valid, test = split_triples(
        triples,
        graph.num_entities,
        graph.num_relations,
        ratio=ratio,
        seed=seed,
        covered=covered,
        together=together,
    )
    return replace(graph, train=train, valid=valid, test=test), removed


@dataclass(frozen=True)
class _Seen:
    entity: Bool[Tensor, " E"]
    relation: Bool[Tensor, " R"]

    @classmethod
    def of(cls, graph: KnowledgeGraph, train: Int64[Tensor, "T 3"]) -> "_Seen":
        entity = torch.zeros(graph.num_entities, dtype=torch.bool)
        relation = torch.zeros(graph.num_relations, dtype=torch.bool)
        entity[train[:, 0]] = entity[train[:, 2]] = True
        relation[train[:, 1]] = True
        return cls(entity, relation)

    def all_of(self, triples: Int64[Tensor, "T 3"]) -> Bool[Tensor, " T"]:
        head, relation, tail = triples.unbind(1)
        return self.entity[head] & self.relation[relation] & self.entity[tail]
