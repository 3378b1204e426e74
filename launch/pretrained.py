"""Takes a model from a checkpoint of an earlier run, instead of pre-training it."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from embedding.model import KGEModel
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from launch.parts import name_key
from launch.same_model import refuse_another_model
from trainer.checkpoint import Checkpointer
from trainer.manifest import load_manifest
from trainer.pointer import find_checkpoint

log = logging.getLogger(__name__)


def load_pretrained(
    config: DictConfig, graph: KnowledgeGraph, name: str, models: dict[str, KGEModel], checkpointer: Checkpointer
) -> None:
    """Loads a model from `pretrain.NAME.checkpoint`, if that is given: with its averaged weights, if it has any."""
    given = config.pretrain[name].checkpoint
    if given is None:
        return
    key = f"pretrain.{name}.checkpoint"
    if name not in models:
        raise InputError(f"{key}: this run has no {name} model, got {given}")
    checkpoint = _find_pretrained(Path(given), name, key)
    refuse_another_model(config, checkpoint, key, [name])
    log.info("%s: takes the %s of %s", key, name, checkpoint)
    if checkpointer.read_manifest(checkpoint, "graph")["graph"] != graph.fingerprint():
        raise InputError(f"{key}: {checkpoint} was made with another graph than this run's {graph.name}")
    name_key(key, lambda: checkpointer.load_trained(checkpoint, {name: models[name]}))


def _find_pretrained(path: Path, name: str, key: str) -> Path:
    """The best checkpoint of the stage that pre-trained the model, or of the last stage if there is none."""
    latest = find_checkpoint(path, "latest", key)
    manifest = load_manifest(latest, "stages")
    stages: list[str] = manifest["stages"]
    if name == "generator" and stages[-1] == "training":
        raise InputError(f"{key}: {path} is of a run whose generator has no model")
    if latest == path:
        return path
    for pointer in (f"best_pretrain_{name}", f"best_{stages[-1]}"):
        if (latest.parent / f"{pointer}.json").is_file():
            return find_checkpoint(path, pointer, key)
    begun = stages[: load_manifest(latest, "cursor")["cursor"]["stage"] + 1]
    if f"pretrain_{name}" not in begun and stages[-1] not in begun:
        raise InputError(f"{key}: the run of {path} has not trained its {name} yet; resume it first")
    return latest
