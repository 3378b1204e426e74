"""Runs on graphs without valid or test triples: rankings that need them are left out, with a log line."""

import logging
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from launch.options import check_options
from launch.parts import instantiate
from launch.typed import is_typed

log = logging.getLogger(__name__)
_STAGES = ("trainer", "pretrain.generator", "pretrain.discriminator")


def without_validation(config: DictConfig, graph: KnowledgeGraph) -> None:
    """If the graph has no valid triples, turns off validation and early stopping in all stages of a config.

    Raises:
        InputError: the user typed a patience.
    """
    if len(graph.valid):
        return
    for key in _STAGES:
        patience = config.pretrain[key.split(".")[1]].patience if "." in key else config.trainer.patience
        if is_typed(config, f"{key}.patience") and patience > 0:
            raise InputError(
                f"{key}.patience: early stopping goes by validation, but {graph.name} has no valid triples, "
                f"got {patience}; leave it out, or add a valid file"
            )
    for options in (config.trainer, config.pretrain.generator, config.pretrain.discriminator):
        options.valid_every = options.patience = 0
    log.info(
        "%s has no valid triples: each stage trains for all its epochs without validation, and the model of its last "
        "step is kept",
        graph.name,
    )


def needs_splits(configs: Iterable[DictConfig], splits: Sequence[str], key: str) -> None:
    """Reads the graph of each config, and raises InputError if one has no triples in one of the splits.

    A config with a wrong option is passed over, because its run will say what is wrong.

    Args:
        key: the option that needs the splits, for the error.
    """
    seen: set[str] = set()
    for config in configs:
        try:
            check_options(config)
        except InputError:
            continue
        chosen = OmegaConf.to_yaml(config.graph, resolve=True)
        if chosen not in seen:
            graph = instantiate(config.graph)
            for split in splits:
                needs_split(graph, split, key)
        seen.add(chosen)


def needs_split(graph: KnowledgeGraph, split: str, key: str) -> None:
    """Raises InputError if a split has no triples; `key` is the option that needs it."""
    if not len(getattr(graph, split)):
        raise InputError(f"{key}: {graph.name} has no {split} triples")
