"""An estimate of a run's memory, before its tables are made: a run that can't fit is refused, not killed later."""

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from embedding.free_memory import free_memory
from embedding.site import ModelSite
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from graph.partition import EntityPlacement
from graph.shards import REPLICATED
from launch.kept_rows import row_types
from launch.parts import instantiate, name_key
from trainer.peak import bytes_in_files
from trainer.runtime import Runtime

log = logging.getLogger(__name__)
_SUMMED = 8
"""Bytes of a number of a summed gradient. A replicated table has them of all rows, to send and as they came."""
_OF_AN_ENTITY = 16 + 8
"""Bytes, besides its rows: its place in the table and back, its degree."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on each rank."""

    rows: int
    """Entity rows of all models, averages of them, and what an encoder makes of them. If rows are replicated, the
    copies too, and the sums of their gradients in a step."""
    state: int
    """The optimisers' state of these rows."""
    graph: int
    """What must be in memory of the graph: places and degrees of entities, and what is mapped from no file."""
    mapped: int
    """Triples, sorted facts and names that are mapped from files. The ranks of a machine share them, and the system
    reads their pages, and drops them, as it has room."""

    def __str__(self) -> str:
        parts = (("entity rows", self.rows), ("optimiser state", self.state), ("graph", self.graph))
        held = ", ".join(f"{name} {_shown(size)}" for name, size in parts)
        return f"{held}; mapped from files, which may leave memory: {_shown(self.mapped)}" if self.mapped else held


def footprint(config: DictConfig, graph: KnowledgeGraph, world_size: int) -> Footprint:
    """What the tables of a run and its graph take on each rank. Steps and torch itself take some hundred MB more."""
    rows = state = copies = 0
    models = [(config.discriminator, config.optimizer, "discriminator")]
    if config.generator.get("model") is not None:
        models.append((config.generator.model, config.generator.optimizer, "generator"))
    for model, optimizer, name in models:
        row, of_row = _bytes_of_a_row(config, graph, model, optimizer, name)
        has_average = config.average is not None and name == "discriminator"
        rows += row * (2 if has_average else 1)
        if config.encoder is not None and name == "discriminator":
            layers = config.encoder.layers
            # In each step: what each layer got and made, and its gradient; what batch norm got. With sampled
            # neighbourhoods, only to rank: what the last layer makes, and what it gets.
            of_step = 2 * (1 + layers) + (layers if config.encoder.batch_norm else 0)
            rows += row * (of_step if config.encoder.fanout is None else min(2, layers))
        state += of_row
        copies += row + 2 * _SUMMED * row // getattr(torch, config.dtype).itemsize
    block = -(-graph.num_entities // world_size)
    replicated = world_size > 1 and config.placement.get("storage") == REPLICATED
    of_all = copies * block * world_size if replicated else 0
    share = _share_in_memory(config.placement)
    tensors = _tensors_of_graph(graph)
    mapped = bytes_in_files(tensors)
    of_graph = sum(tensor.nbytes for tensor in tensors) - mapped + graph.num_entities * _OF_AN_ENTITY
    if share < 1:
        mapped += graph.train.nbytes  # once more, in the order of shards
    return Footprint(int(rows * block * share) + of_all, int(state * block * share), of_graph, mapped)


def _share_in_memory(placement: DictConfig) -> float:
    """The share of entity rows that is in memory: shards of a state, one that comes and one that goes."""
    return min(1.0, (placement.resident + 2) / placement.shards) if placement.get("storage") == "disk" else 1.0


def _tensors_of_graph(graph: KnowledgeGraph) -> list[Tensor]:
    """The triples, train's facts as they are sorted, and names."""
    names = PackedNames.pack(graph.entity_names)
    tensors = [graph.train, graph.valid, graph.test, names.text, names.offsets]
    return [*tensors, *(part for side in (graph.known.tails, graph.known.heads) for part in side.tensors)]


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
        **row_types(config),
        seed=config.seed,
    )
    small = name_key(name, lambda: instantiate(model)(site, name=name))
    made = name_key("optimizer" if name == "discriminator" else name, lambda: instantiate(optimizer)(small))
    return small.entity.weight.nbytes, sum(each.nbytes for each in made.row_state.values())


def require_memory(config: DictConfig, graph: KnowledgeGraph, runtime: Runtime) -> None:
    """Logs the estimate. Collective.

    Raises:
        InputError: what must be in memory is more than this machine, or this rank's GPU, has free.
    """
    needed = footprint(config, graph, runtime.world_size)
    if runtime.is_first:
        log.info("memory of each rank, about: %s", needed)
    on_gpu = runtime.device.type == "cuda"
    sharing = 1 if on_gpu else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = torch.cuda.mem_get_info(runtime.device)[0] if on_gpu else free_memory()
    # What has been read of the graph is not free any more; places and degrees of entities are yet to come.
    tables = (needed.rows + needed.state + graph.num_entities * _OF_AN_ENTITY) * sharing
    error = None
    if tables > free:
        where = "this rank's GPU" if on_gpu else "this machine"
        of = f"{sharing} ranks" if sharing > 1 else "the run"
        error = (
            f"the tables do not fit: {of} would take {_shown(tables)} of {where} for entity rows, optimiser state and "
            f"the places of entities, and {_shown(free)} are free; a smaller discriminator.dim, "
            f"optimizer=rowwise_adagrad, more machines or {_less_of_the_table(config)} take less"
        )
    runtime.agree(error)


def _less_of_the_table(config: DictConfig) -> str:
    """The option that keeps less of the table in memory."""
    less = {"disk": "a smaller placement.resident", REPLICATED: "placement.storage=memory"}
    return less.get(config.placement.get("storage"), "placement.storage=disk")


def _shown(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
