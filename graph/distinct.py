"""Triples as a set: each once, in one order, whatever the order of the lines that they came from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from graph.arrow_names import as_array, packed
from graph.knowledge_graph import KnowledgeGraph, PackedNames

_LARGEST = 1 << 63
pc: Any = pyarrow.compute  # it creates its functions at import, where a type checker does not see them


def numbered_by_name(graph: KnowledgeGraph) -> KnowledgeGraph:
    """The graph with ids that ascend by name (its UTF-8 bytes), without names that no triple has.

    So the ids do not depend on the order of lines.
    """
    splits = graph.train, graph.valid, graph.test
    has_entity = torch.zeros(graph.num_entities, dtype=torch.bool)
    has_relation = torch.zeros(graph.num_relations, dtype=torch.bool)
    for triples in splits:
        has_entity[triples[:, 0]] = has_entity[triples[:, 2]] = True
        has_relation[triples[:, 1]] = True
    entity_names, entity = _renumbered(graph.entity_names, has_entity)
    relation_names, relation = _renumbered(graph.relation_names, has_relation)

    def mapped(triples: Int[Tensor, "T 3"]) -> Int64[Tensor, "T 3"]:
        return torch.stack([entity[triples[:, 0]], relation[triples[:, 1]], entity[triples[:, 2]]], dim=1)

    train, valid, test = map(mapped, splits)
    return replace(graph, entity_names=entity_names, relation_names=relation_names, train=train, valid=valid, test=test)


def _renumbered(names: Sequence[str], has: Bool[Tensor, " E"]) -> tuple[PackedNames, Int64[Tensor, " E"]]:
    """The used names in their order, and the new id of each old one (-1 for a name that is not used)."""
    array = as_array(names)
    order = torch.from_numpy(pc.sort_indices(array).to_numpy().astype("int64"))
    order = order[has[order]]
    new = torch.full((len(array),), -1)
    new[order] = torch.arange(len(order))
    return packed(array.take(pa.array(order.numpy()))), new


def distinct(triples: Int64[Tensor, "T 3"]) -> Int64[Tensor, "D 3"]:
    """Each row once, ascending by head, then relation, then tail."""
    if not len(triples):
        return triples
    head, relation, tail = triples.unbind(1)
    num_relations, num_entities = int(relation.max()) + 1, int(tail.max()) + 1
    query = head * num_relations + relation
    queries = None
    if (int(query.max()) + 1) * num_entities >= _LARGEST:
        queries, query = torch.unique(query, return_inverse=True)  # smaller numbers, in the same order
    key = (query * num_entities).add_(tail).sort().values
    is_first = torch.ones(len(key), dtype=torch.bool)
    torch.ne(key[1:], key[:-1], out=is_first[1:])
    key = key[is_first]
    query, tail = key // num_entities, key % num_entities
    if queries is not None:
        query = queries[query]
    return torch.stack([query // num_relations, query % num_relations, tail], dim=1)
