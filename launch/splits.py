"""Runs on graphs that have no valid or no test triples: what there is nothing to rank by is left out, and said."""

import logging

from omegaconf import DictConfig

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from launch.typed import is_typed

log = logging.getLogger(__name__)
_STAGES = ("trainer", "pretrain.generator", "pretrain.discriminator")


def without_validation(config: DictConfig, graph: KnowledgeGraph) -> None:
    """Without valid triples, takes validation and early stopping out of all stages; does nothing otherwise.

    Raises:
        InputError: early stopping was asked for on the command line.
    """
    if len(graph.valid):
        return
    for key in _STAGES:
        patience = config.pretrain[key.split(".")[1]].patience if "." in key else config.trainer.patience
        if is_typed(config, f"{key}.patience") and patience > 0:
            raise InputError(
                f"{key}.patience: early stopping goes by the validation MRR, but {graph.name} has no valid triples, "
                f"got {patience}; leave it out, or add a valid file"
            )
    for options in (config.trainer, config.pretrain.generator, config.pretrain.discriminator):
        options.valid_every = options.patience = 0
    log.info(
        "%s has no valid triples: each stage trains for all its epochs and nothing is ranked on the way; the model of "
        "the last step is kept",
        graph.name,
    )


def needs_split(graph: KnowledgeGraph, split: str, key: str) -> None:
    """Raises InputError, with the option that asks for it in front, if a split has no triples."""
    if not len(getattr(graph, split)):
        raise InputError(f"{key}: {graph.name} has no {split} triples")
