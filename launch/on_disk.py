"""Refuses options that do not go with where the entity table is: on disk, or replicated."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from discriminator.loss.table_loss import TableLoss
from embedding.optimizer import DenseAdam
from generator.sampler import NegativeSampler
from graph.errors import InputError
from graph.shards import REPLICATED


def settle_storage(config: DictConfig, folder: Path) -> None:
    """Checks the options of a run before its graph is read, and sets where its table is if nobody said it.

    Args:
        folder: the run folder.

    Raises:
        InputError: placement.storage=disk keeps less than the whole table in memory, and an option needs all of it; or
            placement.storage=replicated with an encoder.
    """
    placement = config.placement
    if placement.get("storage") == REPLICATED and config.get("encoder") is not None:
        raise InputError(
            f"placement.storage=replicated: encoder={_name(config.encoder)} makes the rows of each rank's own entities "
            "in each step, and no rank has all of them; take placement.storage=memory, or leave the encoder out"
        )
    if placement.get("storage") != "disk":
        return
    if placement.folder is None:
        placement.folder = str(folder / "table")
    if config.get("encoder") is not None:
        raise InputError(
            f"placement.storage=disk: encoder={_name(config.encoder)} has a second table, of the rows that it makes, "
            "in memory; leave it out"
        )
    if placement.resident >= placement.shards:
        return
    for key, node in _samplers(config):
        if not _class_of(node, NegativeSampler).draws_resident:
            raise InputError(
                f"placement.storage=disk: {key}={_name(node)} draws entities that are not in memory; take uniform, "
                "bernoulli, cardinality, kbgan, false_negative_aware or in_batch, or a mixture or curriculum of these"
            )
    for key, loss in (("loss", config.loss), *((f"pretrain.{n}.loss", p.loss) for n, p in _pretraining(config))):
        if issubclass(_class_of(loss, object), TableLoss):
            raise InputError(
                f"placement.storage=disk: {key}={_name(loss)} compares each positive with all entities; take a loss of "
                "negatives, such as loss=softmax"
            )
    optimizers = [("optimizer", config.optimizer), ("generator.optimizer", config.generator.get("optimizer"))]
    for key, optimizer in optimizers:
        if optimizer is not None and issubclass(_class_of(optimizer, object), DenseAdam):
            raise InputError(
                f"placement.storage=disk: {key}=adam moves all rows in each step; take lazy_adam or rowwise_adagrad"
            )
    if config.average is not None:
        raise InputError(
            f"placement.storage=disk: average={_name(config.average)} is a second table in memory; leave it out"
        )


def _samplers(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Every sampler of the run and its key, the parts of mixtures and the hard sampler of a curriculum too."""
    tops = [("generator", config.generator)]
    tops += [(f"pretrain.{name}.sampler", options.sampler) for name, options in _pretraining(config)]
    for key, node in tops:
        yield key, node
        yield from ((f"{key}.parts.{name}", part) for name, part in (node.get("parts") or {}).items())
        if node.get("hard") is not None:
            yield f"{key}.hard", node.hard


def _pretraining(config: DictConfig) -> list[tuple[str, Any]]:
    """The stages of pre-training that this run has."""
    named = ((name, config.pretrain[name]) for name in ("generator", "discriminator"))
    return [(name, each) for name, each in named if each.epochs and each.checkpoint is None and each.sampler]


def _class_of(node: DictConfig, base: type) -> Any:
    """The class that a choice makes; `base` for a function, which is none of those that are refused."""
    module, _, name = str(node._target_).rpartition(".")
    found = getattr(importlib.import_module(module), name)
    return found if isinstance(found, type) else base


def _name(node: DictConfig) -> str:
    return str(node._target_).split(".")[-2]
