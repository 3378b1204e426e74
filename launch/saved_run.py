"""A run read back from its folder: its config, its graph, and the discriminator of one of its checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch.build import Run, build_run
from launch.schema import SavedRunOptions
from trainer.checkpoint import Checkpointer, Player, find_checkpoint, load_manifest
from trainer.runtime import Runtime

_ROOMS = ("graph", "embedding", "generator", "discriminator", "trainer")
# Placement decides only which rank owns a row, so a run that used METIS is read back without DGL.
_PLACEMENT = {"_target_": "graph.partition.random_placement", "_partial_": True}


def load_run(options: SavedRunOptions, runtime: Runtime) -> tuple[Run, Path]:
    """The run of a folder with its trained discriminator, and the checkpoint that it is from. Collective.

    Raises:
        InputError: no such run or checkpoint, a damaged one, or a graph that is no longer the one it was trained on.
    """
    folder = _folder(options)
    config = _read_config(folder, options)
    checkpoint = _choose_checkpoint(folder, options.checkpoint)
    checkpointer = Checkpointer(checkpoint.parent, runtime, keep=1)
    manifest = checkpointer.read_manifest(checkpoint)
    run = build_run(config, runtime)
    if run.graph.fingerprint() != manifest["graph"]:
        place = [f"graph.{key}=DIR" for key in ("root", "path") if key in config.graph]
        changed = f"its files have changed; say where the right ones are with {place[0]}" if place else "it has changed"
        raise InputError(
            f"run: {folder} was trained on a graph with fingerprint {manifest['graph']}, but {run.graph.name} now has "
            f"{run.graph.fingerprint()}: {changed}"
        )
    checkpointer.load(checkpoint, {"discriminator": Player(run.discriminator, None)})
    return run, checkpoint


def _folder(options: SavedRunOptions) -> Path:
    if options.run is None:
        raise InputError("run must be a run folder, as in run=outputs/..., it is not given")
    folder = Path(options.run)
    if not (folder / "config.yaml").is_file():
        raise InputError(f"run must be a run folder, one with a config.yaml, got {folder}")
    return folder


def _read_config(folder: Path, options: SavedRunOptions) -> DictConfig:
    path = folder / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    missing = [key for key in ("graph", "discriminator", "trainer", "dtype", "seed") if key not in config]
    if missing or not isinstance(config, DictConfig):
        raise InputError(f"{path} is damaged: it has no {', '.join(missing)}")
    for target in _targets(config):
        _check_target(path, target)
    config.placement = _PLACEMENT
    for key in ("root", "path"):
        value = getattr(options.graph, key)
        if value is not None:
            if key not in config.graph:
                raise InputError(f"graph.{key}: the graph of {folder} has no such option, got {value}")
            config.graph[key] = value
    return config


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, DictConfig | Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _targets(value)


def _check_target(path: Path, target: str) -> None:
    """A run folder may come from someone else, so its config may name what is defined in our rooms and nothing else.

    The object's own module counts too: `graph.partition.os.system` begins like one of ours.
    """
    named = target.split(".", 1)[0] in _ROOMS
    try:
        found = get_object(target) if named else None
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: _target_ {target!r} is not in this version: {str(error).splitlines()[0]}") from error
    if str(getattr(found, "__module__", "")).split(".", 1)[0] not in _ROOMS:
        raise InputError(f"{path}: _target_ must be something of {', '.join(_ROOMS)}, got {target!r}")


def _choose_checkpoint(folder: Path, name: str | None) -> Path:
    """By its name; without one the best of the last stage, or the newest where that stage was never validated."""
    if name is None:
        stage = load_manifest(find_checkpoint(folder, "latest", "run"))["stages"][-1]
        name = f"best_{stage}" if (folder / "checkpoints" / f"best_{stage}.json").is_file() else "latest"
    checkpoint = folder / "checkpoints" / name
    return checkpoint if (checkpoint / "manifest.json").is_file() else find_checkpoint(folder, name, "checkpoint")
