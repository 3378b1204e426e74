"""An estimate of a run's memory, before its tables are made: a run that can't fit is refused, not killed later."""

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from embedding.free_memory import free_memory
from embedding.site import ModelSite
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from graph.partition import EntityPlacement
from launch.parts import instantiate, name_key
from trainer.runtime import Runtime

log = logging.getLogger(__name__)
_OF_AN_ENTITY = 8 + 16 + 8
"""Bytes, besides its rows: where its name starts, its place in the table and back, its degree."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on each rank."""

    rows: int
    """Entity rows of all models, averages of them, and what an encoder makes of them."""
    state: int
    """The optimisers' state of these rows."""
    graph: int
    """Triples, sorted facts, names and counts. Of a graph with a cache, the ranks of a machine share most of it."""

    def __str__(self) -> str:
        parts = (("entity rows", self.rows), ("optimiser state", self.state), ("graph", self.graph))
        return ", ".join(f"{name} {_shown(size)}" for name, size in parts)


def footprint(config: DictConfig, graph: KnowledgeGraph, world_size: int) -> Footprint:
    """What the tables of a run and its graph take on each rank. Steps and torch itself take some hundred MB more."""
    rows = state = 0
    models = [(config.discriminator, config.optimizer, "discriminator")]
    if config.generator.get("model") is not None:
        models.append((config.generator.model, config.generator.optimizer, "generator"))
    for model, optimizer, name in models:
        row, of_row = _bytes_of_a_row(config, graph, model, optimizer, name)
        has_average = config.average is not None and name == "discriminator"
        rows += row * (2 if has_average else 1)
        if config.encoder is not None and name == "discriminator":
            layers = config.encoder.layers
            # In each step: what each layer got and made, and its gradient. With sampled neighbourhoods, only to rank:
            # what the last layer makes, and what it gets.
            rows += row * (2 * (1 + layers) if config.encoder.fanout is None else min(2, layers))
        state += of_row
    block = -(-graph.num_entities // world_size)
    share = _share_in_memory(config)
    return Footprint(int(rows * block * share), int(state * block * share), _bytes_of_graph(graph))


def _share_in_memory(config: DictConfig) -> float:
    """The share of entity rows that is in memory: shards of a state, one that comes and one that goes."""
    placement = config.placement
    return min(1.0, (placement.resident + 2) / placement.shards) if placement.get("storage") == "disk" else 1.0


def _bytes_of_graph(graph: KnowledgeGraph) -> int:
    """Bytes of the triples, of train's facts as they are sorted and as the entities of each relation, and of names."""
    indexes = (graph.known.tails, graph.known.heads)
    tensors = [graph.train, graph.valid, graph.test, PackedNames.pack(graph.entity_names).text]
    tensors += [part for index in indexes for part in (index.query, index.offset, index.answer)]
    of_relations = sum(4 * len(index.query) for index in indexes)
    return sum(tensor.nbytes for tensor in tensors) + of_relations + graph.num_entities * _OF_AN_ENTITY


def _bytes_of_a_row(
    config: DictConfig, graph: KnowledgeGraph, model: Any, optimizer: Any, name: str
) -> tuple[int, int]:
    """Bytes of an entity's row and of its optimiser state, from a model that has one entity."""
    site = ModelSite(
        placement=EntityPlacement.from_order(torch.zeros(1, dtype=torch.int64)),
        num_relations=graph.num_relations,
        rank=0,
        world_size=1,
        device=torch.device("cpu"),
        dtype=getattr(torch, config.dtype),
        seed=config.seed,
    )
    small = name_key(name, lambda: instantiate(model)(site, name=name))
    made = name_key("optimizer" if name == "discriminator" else name, lambda: instantiate(optimizer)(small))
    return small.entity.weight.nbytes, sum(each.nbytes for each in made.row_state.values())


def require_memory(config: DictConfig, graph: KnowledgeGraph, runtime: Runtime) -> None:
    """Logs the estimate. Collective.

    Raises:
        InputError: the rows and their state alone take more than this machine, or this rank's GPU, has free.
    """
    needed = footprint(config, graph, runtime.world_size)
    if runtime.is_first:
        log.info("memory of each rank, about: %s", needed)
    on_gpu = runtime.device.type == "cuda"
    sharing = 1 if on_gpu else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = torch.cuda.mem_get_info(runtime.device)[0] if on_gpu else free_memory()
    tables = (needed.rows + needed.state) * sharing
    error = None
    if tables > free:
        where = "this rank's GPU" if on_gpu else "this machine"
        of = f"{sharing} ranks" if sharing > 1 else "the run"
        error = (
            f"the tables do not fit: {of} would take {_shown(tables)} of {where} for entity rows and optimiser state, "
            f"and {_shown(free)} are free; a smaller discriminator.dim, optimizer=rowwise_adagrad or more machines "
            "take less"
        )
    runtime.agree(error)


def _shown(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
