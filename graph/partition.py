"""Which rank owns which entity: entities are permuted once, and rank k owns the k-th block of the permuted rows.

The permutation does not know the number of ranks, so a checkpoint written on 3 ranks is cut anew on 2. Random placement
is the default: Kochsiek and Gemulla (Parallel Training of Knowledge Graph Embedding Models, PVLDB 15(3), 2021) found it
to lose nothing. METIS (Karypis and Kumar, SIAM J. Sci. Comput. 1998) keeps the two ends of a triple on one rank more
often, so that fewer rows travel.
"""

import contextlib
import importlib
import io
import os
import sys
import types
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import stream
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph


@dataclass(frozen=True, eq=False)
class EntityPlacement:
    """A permutation of the entities to rows; W ranks own the rows in contiguous blocks of ceil(E / W)."""

    row_of_entity: Int64[Tensor, " E"]
    entity_of_row: Int64[Tensor, " E"]

    @classmethod
    def from_order(cls, entity_of_row: Int64[Tensor, " E"]) -> "EntityPlacement":
        """The placement whose row i holds the entity `entity_of_row[i]`; the argument is a permutation of 0 .. E-1."""
        row_of_entity = torch.empty_like(entity_of_row)
        row_of_entity[entity_of_row] = torch.arange(len(entity_of_row))
        return cls(row_of_entity, entity_of_row)

    def block_size(self, world_size: int) -> int:
        """Rows of a full block, ceil(E / W): what a table allocates on every rank, the short ones padded."""
        return -(-len(self.entity_of_row) // world_size)

    def block(self, rank: int, world_size: int) -> tuple[int, int]:
        """(start, stop) of the rows that a rank owns. The last blocks may be short, or empty when E < W."""
        size, num_rows = self.block_size(world_size), len(self.entity_of_row)
        return min(rank * size, num_rows), min((rank + 1) * size, num_rows)


def random_placement(graph: KnowledgeGraph, seed: int) -> EntityPlacement:
    """A uniformly random permutation of the entities, a function of (number of entities, seed)."""
    return EntityPlacement.from_order(_random_order(graph.num_entities, seed))


def metis_placement(graph: KnowledgeGraph, seed: int, *, num_parts: int) -> EntityPlacement:
    """Entities in the order of their METIS part, and by id within a part, so that neighbours share a rank.

    Parts come from recursive bisection of the train triples. They are numbered as the leaves of its tree, from left to
    right, so consecutive parts are near each other and every cut into equal blocks keeps whole subtrees together.
    `num_parts` is therefore no number of ranks, only how fine the order is: some multiple of the most ranks to be used.

    METIS has no seed in DGL's interface; its result depends on how the nodes are numbered, so they are renumbered by
    the seed. Same graph, same seed: same placement.

    Raises:
        InputError: `num_parts` is not in [2, number of entities], DGL cannot be imported, or METIS failed.
    """
    if not 2 <= num_parts <= graph.num_entities:
        raise InputError(
            f"placement.num_parts must be from 2 to the number of entities ({graph.num_entities}), got {num_parts}"
        )
    node_of_entity = _random_order(graph.num_entities, seed)
    head, tail = _neighbours(node_of_entity[graph.train[:, 0]], node_of_entity[graph.train[:, 2]], graph.num_entities)
    part_of_node = _metis_parts(head, tail, graph.num_entities, num_parts)
    return EntityPlacement.from_order(torch.argsort(part_of_node[node_of_entity], stable=True))


def _random_order(num_entities: int, seed: int) -> Int64[Tensor, " E"]:
    generator = torch.Generator().manual_seed(stream("entity placement", seed))
    return torch.randperm(num_entities, generator=generator)


def _neighbours(
    head: Int64[Tensor, " T"], tail: Int64[Tensor, " T"], num_nodes: int
) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """Each pair of distinct neighbours once: METIS wants no self-loops, and overruns its memory with parallel edges."""
    low, high = torch.minimum(head, tail), torch.maximum(head, tail)
    pair = torch.unique(low[low != high] * num_nodes + high[low != high])
    return pair // num_nodes, pair % num_nodes


def _metis_parts(
    head: Int64[Tensor, " T"], tail: Int64[Tensor, " T"], num_nodes: int, num_parts: int
) -> Int64[Tensor, " E"]:
    """The part, in [0, num_parts), of each node of the graph with these edges."""
    dgl = _import_dgl()
    edges = dgl.graph((head, tail), num_nodes=num_nodes)
    # DGL prints its timings, and stdout is the command's own; it also leaves a file in /proc open for each.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=ResourceWarning):
        # Not DGL's default "k-way": on FB15k-237 cut for 2 ranks it separates .16 of the triples and "recursive" .10
        # (random: .50), and with 1,024 parts a second call gave other parts than the first.
        parts = dgl.metis_partition_assignment(edges, num_parts, mode="recursive")
    if parts is None:  # how DGL says that METIS gave up
        raise InputError(
            f"placement=metis: METIS could not cut {num_nodes} entities into placement.num_parts={num_parts} parts; "
            "use fewer parts or placement=random"
        )
    return parts


def _import_dgl() -> Any:
    """DGL, imported here and not above: it takes seconds, and only METIS needs it.

    dgl 2.x (the only one for Python 3.12; there is none for later ones) imports dgl.graphbolt at once, whose compiled
    library exists up to torch 2.2 only. Nothing here uses graphbolt, so an empty module stands in for it. dgl 1.x does
    not look for it.
    """
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL writes a config file into the user's home
    sys.modules.setdefault("dgl.graphbolt", types.ModuleType("dgl.graphbolt"))
    try:
        return importlib.import_module("dgl")
    except (ImportError, OSError) as error:  # OSError: a shared library of its own that does not load
        raise InputError(
            f"placement=metis needs DGL, which cannot be imported: {_advice(sys.version_info[:2])}, or use "
            f"placement=random; the import said: {_first_line(error)}"
        ) from error


def _advice(python: tuple[int, ...]) -> str:
    if python > (3, 12):
        return f"it has no wheel for Python {python[0]}.{python[1]}, so use Python 3.11 or 3.12"
    return f"install `{'dgl==1.1.3' if python < (3, 12) else 'dgl==2.1.0'} packaging`"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
