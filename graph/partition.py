"""Places entities on ranks: entities are permuted once, and rank k owns block k of the permuted rows.

The permutation does not depend on the number of ranks, so 2 ranks can load a checkpoint that 3 ranks wrote. The default
is a random placement: Kochsiek and Gemulla (Parallel Training of Knowledge Graph Embedding Models, PVLDB 15(3), 2021)
found that it works as well as others. METIS (Karypis and Kumar, SIAM J. Sci. Comput. 1998) puts the head and the tail
of a triple on the same rank more often, so fewer rows are sent between ranks.
"""

import contextlib
import importlib
import io
import logging
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
from graph.shards import REPLICATED, DiskPlan

_log = logging.getLogger("advkge")
COUNTED, FIXED = "counted", "fixed"


@dataclass(frozen=True, eq=False)
class EntityPlacement:
    """A permutation of the entities to rows; W ranks own the rows in contiguous blocks of ceil(E / W)."""

    row_of_entity: Int64[Tensor, " E"]
    entity_of_row: Int64[Tensor, " E"]
    disk: DiskPlan | None = None
    """How the rows are kept on disk; None: they are in memory."""
    replicated: bool = False
    """Whether each rank has a copy of all rows, beside those that it owns."""
    exchange: str | None = None
    """How a training step gets rows of other ranks: COUNTED, FIXED, or None: as it is best for each stage."""

    @classmethod
    def from_order(
        cls,
        entity_of_row: Int64[Tensor, " E"],
        disk: DiskPlan | None = None,
        *,
        replicated: bool = False,
        exchange: str | None = None,
    ) -> "EntityPlacement":
        """The placement whose row i holds entity `entity_of_row[i]`; `entity_of_row` is a permutation of 0 .. E-1.

        Raises:
            InputError: there is no such exchange.
        """
        if exchange not in (COUNTED, FIXED, None):
            raise InputError(f"placement.exchange must be {COUNTED}, {FIXED} or null, got {exchange!r}")
        row_of_entity = torch.empty_like(entity_of_row)
        row_of_entity[entity_of_row] = torch.arange(len(entity_of_row))
        return cls(row_of_entity, entity_of_row, disk, replicated, exchange)

    def block_size(self, world_size: int) -> int:
        """Rows of a full block, ceil(E / W). Every rank allocates this many; shorter blocks are padded."""
        return -(-len(self.entity_of_row) // world_size)

    def block(self, rank: int, world_size: int) -> tuple[int, int]:
        """(start, stop) of the rows that a rank owns. The last blocks may be shorter, or empty."""
        size, num_rows = self.block_size(world_size), len(self.entity_of_row)
        return min(rank * size, num_rows), min((rank + 1) * size, num_rows)


def random_placement(
    graph: KnowledgeGraph,
    seed: int,
    *,
    storage: str = "memory",
    exchange: str | None = None,
    shards: int = 1,
    resident: int = 1,
    folder: str | None = None,
) -> EntityPlacement:
    """A uniformly random permutation of the entities. It depends on the number of entities and the seed only.

    Args:
        storage: "memory"; "replicated": each rank has all rows in memory; or "disk": the table is cut into `shards`, of
            which `resident` are in memory, in `folder`.
        exchange: see `EntityPlacement`.

    Raises:
        InputError: see `DiskPlan.of` and `EntityPlacement.from_order`.
    """
    disk = DiskPlan.of(storage, shards, resident, folder, graph.num_entities)
    order = _random_order(graph.num_entities, seed)
    return EntityPlacement.from_order(order, disk, replicated=storage == REPLICATED, exchange=exchange)


def metis_placement(
    graph: KnowledgeGraph,
    seed: int,
    *,
    num_parts: int,
    storage: str = "memory",
    exchange: str | None = None,
    shards: int = 1,
    resident: int = 1,
    folder: str | None = None,
) -> EntityPlacement:
    """Entities sorted by their METIS part, then by id, so that neighbours are mostly on the same rank.

    METIS bisects the train graph again and again, and parts are numbered from left to right in the tree of bisections.
    Consecutive parts are therefore close in the graph, and equal blocks of rows keep whole subtrees together. So
    `num_parts` need not be the number of ranks: use a multiple of the largest number of ranks.

    DGL's interface to METIS has no seed, but the result depends on the numbering of the nodes. So nodes are renumbered
    at random by `seed`. Equal graphs and seeds give equal placements. The options of storage and exchange are those of
    `random_placement`.

    Raises:
        InputError: `num_parts` is not in [2, number of entities], DGL cannot be imported, or METIS failed.
    """
    if not 2 <= num_parts <= graph.num_entities:
        raise InputError(
            f"placement.num_parts must be from 2 to the number of entities ({graph.num_entities}), got {num_parts}"
        )
    disk = DiskPlan.of(storage, shards, resident, folder, graph.num_entities)
    # METIS is one call that tells nothing of its progress.
    _log.info("METIS cuts the graph of %s entities into %d parts", f"{graph.num_entities:,}", num_parts)
    node_of_entity = _random_order(graph.num_entities, seed)
    head, tail = _neighbours(node_of_entity[graph.train[:, 0]], node_of_entity[graph.train[:, 2]], graph.num_entities)
    part_of_node = _metis_parts(head, tail, graph.num_entities, num_parts)
    order = torch.argsort(part_of_node[node_of_entity], stable=True)
    return EntityPlacement.from_order(order, disk, replicated=storage == REPLICATED, exchange=exchange)


def _random_order(num_entities: int, seed: int) -> Int64[Tensor, " E"]:
    generator = torch.Generator().manual_seed(stream("entity placement", seed))
    return torch.randperm(num_entities, generator=generator)


def _neighbours(
    head: Int64[Tensor, " T"], tail: Int64[Tensor, " T"], num_nodes: int
) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """Each pair of distinct neighbours once. METIS needs a graph without self-loops and crashes on parallel edges."""
    low, high = torch.minimum(head, tail), torch.maximum(head, tail)
    pair = torch.unique(low[low != high] * num_nodes + high[low != high])
    return pair // num_nodes, pair % num_nodes


def _metis_parts(
    head: Int64[Tensor, " T"], tail: Int64[Tensor, " T"], num_nodes: int, num_parts: int
) -> Int64[Tensor, " E"]:
    """The METIS part in [0, num_parts) of each node of the graph with these edges."""
    dgl = _import_dgl()
    edges = dgl.graph((head, tail), num_nodes=num_nodes)
    # DGL prints timings to stdout, which is for the command's own output, and leaves a file of /proc open each time.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore", category=ResourceWarning):
        # DGL's default "k-way" is worse: for 2 ranks of FB15k-237, 16 % of the triples have their head and tail on
        # different ranks, "recursive" 10 %, random 50 %. With 1,024 parts two "k-way" calls also gave different parts.
        parts = dgl.metis_partition_assignment(edges, num_parts, mode="recursive")
    if parts is None:  # DGL returns None when METIS fails
        raise InputError(
            f"placement=metis: METIS could not cut {num_nodes} entities into placement.num_parts={num_parts} parts; "
            "use fewer parts or placement=random"
        )
    return parts


def _import_dgl() -> Any:
    """Imports DGL. The import is not at the top of the file because it takes seconds and only METIS needs it.

    dgl 2.x, the only version for Python 3.12 (later ones have none), imports dgl.graphbolt, whose compiled library
    needs torch 2.2 or older. graphbolt is not used here, so an empty module replaces it. dgl 1.x does not import it.
    """
    os.environ.setdefault("DGLBACKEND", "pytorch")  # otherwise DGL writes a config file to the home folder
    sys.modules.setdefault("dgl.graphbolt", types.ModuleType("dgl.graphbolt"))
    try:
        return importlib.import_module("dgl")
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries cannot be loaded
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
