"""Numbers the relations of a graph as another graph does: for a model that knows relations and no entities."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph


def with_relations_of(graph: KnowledgeGraph, other: KnowledgeGraph) -> KnowledgeGraph:
    """The graph with the relations of another one, by name and number; the other one may have more of them.

    Raises:
        InputError: the graph has a relation that the other one lacks.
    """
    number = {name: place for place, name in enumerate(other.relation_names)}
    new = [name for name in graph.relation_names if name not in number]
    if new:
        raise InputError(
            f"{graph.name} has relations that {other.name} does not have ({len(new):,}, such as {new[0][:80]!r}): "
            "nothing was learned about them"
        )
    of_old = torch.tensor([number[name] for name in graph.relation_names], dtype=torch.int64)

    def renumbered(triples: Int[Tensor, "T 3"]) -> Int[Tensor, "T 3"]:
        head, relation, tail = triples.long().unbind(1)
        return torch.stack([head, of_old[relation], tail], dim=1)

    splits = {name: renumbered(getattr(graph, name)) for name in ("train", "valid", "test", "hidden")}
    # The file of sorted facts has the old numbers.
    return replace(graph, relation_names=other.relation_names, known_file=None, **splits)
