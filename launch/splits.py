"""Runs on graphs without valid or test triples: rankings that need them are left out, with a log line."""

import logging

from omegaconf import DictConfig

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
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


def needs_split(graph: KnowledgeGraph, split: str, key: str) -> None:
    """Raises InputError if a split has no triples; `key` is the option that needs it."""
    if not len(getattr(graph, split)):
        raise InputError(f"{key}: {graph.name} has no {split} triples")
