"""Loads the graph of a run and makes the discriminator's model: what every command begins with."""

import torch
import torch.distributed as dist
from omegaconf import DictConfig

from embedding.encoder.choice import EncoderChoice
from embedding.model import KGEModel
from embedding.site import ModelSite
from embedding.storage import DiskStorage
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.partition import EntityPlacement
from graph.shards import DiskPlan
from launch.kept_rows import row_types
from launch.options import check_options
from launch.parts import instantiate, name_key
from launch.typed import fit_to_graph
from trainer.runtime import Runtime


def read_graph(config: DictConfig, runtime: Runtime) -> KnowledgeGraph:
    """Checks the options of a run and loads its graph. Collective.

    Args:
        config: the resolved config of a run. Values of conf/ that are too large for the graph are changed in it.
    Raises:
        InputError: an option is wrong, or the graph can't be read or has no train triples, or differs between machines.
    """
    check_options(config)
    row_types(config)
    graph = runtime.first_then_others(lambda: instantiate(config.graph))
    refuse_other_graphs(graph, runtime)
    fit_to_graph(config, graph)
    if not len(graph.train):
        raise InputError(f"graph: the train split of {graph.name} has no triples, at least 1 is needed")
    return graph


def refuse_other_graphs(graph: KnowledgeGraph, runtime: Runtime) -> None:
    """Raises InputError if machines have different files of the graph. Collective."""
    if not runtime.on_several_machines:
        return
    prints = runtime.gather(graph.fingerprint(), patient=True)
    for rank, each in enumerate(prints):
        if each != prints[0]:
            raise InputError(
                f"graph: rank {rank} has read another graph than rank 0 (fingerprints {each} and {prints[0]}); each "
                "machine must have the same files"
            )


def build_model(config: DictConfig, graph: KnowledgeGraph, runtime: Runtime, *, loaded: bool = False) -> KGEModel:
    """Assigns the entities to ranks and makes the model, untrained. Collective.

    Args:
        config: the config, after `read_graph`.
        loaded: a checkpoint is loaded into all models of the run next, so entity rows get no initial values.
    Raises:
        InputError: an option is wrong.
    """
    # Before the tables are made: an encoder that is misnamed or has no effect must not cost them.
    encoder = None
    if config.get("encoder") is not None:
        encoder = EncoderChoice(instantiate(config.encoder), graph.train)
    placement = _place(config, graph, runtime)
    return _build(config, graph, runtime, placement, encoder, fills_entities=not loaded)


def build_without_entities(config: DictConfig, graph: KnowledgeGraph, runtime: Runtime) -> KGEModel:
    """As `build_model`, with a table of no entities: for a trained table that is read a block at a time.

    Args:
        runtime: of one rank.
    """
    return _build(config, graph, runtime, EntityPlacement.from_order(torch.empty(0, dtype=torch.int64)))


def _build(
    config: DictConfig,
    graph: KnowledgeGraph,
    runtime: Runtime,
    placement: EntityPlacement,
    encoder: EncoderChoice | None = None,
    *,
    fills_entities: bool = True,
) -> KGEModel:
    storage = None
    if placement.disk is not None:
        if runtime.device.type != "cpu":
            raise InputError(f"placement.storage=disk needs launch.device=cpu, got {runtime.device.type}")
        storage = DiskStorage(placement, runtime.rank, runtime.world_size)
    site = ModelSite(
        placement=placement,
        num_relations=graph.num_relations,
        rank=runtime.rank,
        world_size=runtime.world_size,
        device=runtime.device,
        **row_types(config),
        seed=config.seed,
        storage=storage,
        fills_entities=fills_entities,
        train=graph.train,
    )
    key = "discriminator" if encoder is None else "encoder"
    of_encoder = {} if encoder is None else {"encoder": encoder}
    return name_key(key, lambda: instantiate(config.discriminator)(site, name="discriminator", **of_encoder))


def _place(config: DictConfig, graph: KnowledgeGraph, runtime: Runtime) -> EntityPlacement:
    """Computes the placement on rank 0, for METIS may differ between machines, and sends it to all. Collective."""
    error, entity_of_row = None, torch.empty(graph.num_entities, dtype=torch.int64)
    kept: tuple[DiskPlan | None, bool, str | None] = (None, False, None)
    if runtime.is_first:
        try:
            made = instantiate(config.placement)(graph, config.seed)
            entity_of_row, kept = made.entity_of_row, (made.disk, made.replicated, made.exchange)
        except InputError as failure:
            error = str(failure)
    runtime.agree(error, patient=True)
    if runtime.world_size > 1:
        entity_of_row = entity_of_row.to(runtime.device)
        dist.broadcast(entity_of_row, 0)
    disk, replicated, exchange = runtime.gather(kept)[0]
    return EntityPlacement.from_order(entity_of_row.cpu(), disk, replicated=replicated, exchange=exchange)
