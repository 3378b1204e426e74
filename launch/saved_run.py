"""Loads a trained run from its folder: its config, its graph, and the discriminator of a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from embedding.model import KGEModel
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.reading import read_folder
from graph.same_relations import with_relations_of
from launch.build import build_run
from launch.built_run import Run
from launch.graph_and_model import build_model, read_graph
from launch.opened_model import open_model
from launch.own_targets import check_plain
from launch.parts import instantiate, learns_vectors
from launch.run_options import GONE, RunOptions
from launch.trained_options import SavedRunOptions
from trainer.checkpoint import Checkpointer
from trainer.checkpoint_files import is_file
from trainer.player import load_trained_dense
from trainer.pointer import find_checkpoint, trained_checkpoint
from trainer.runtime import Runtime
from trainer.saved_rows import TrainedRows
from trainer.strict_yaml import read_yaml

_T = TypeVar("_T")
_NEEDED = ("graph._target_", "discriminator.scoring", "trainer.evaluation_memory_mb", "dtype", "seed")
# Placement decides only which rank owns a row, so a run that was trained with METIS can be loaded without DGL.
_PLACEMENT = {"_target_": "graph.partition.random_placement", "_partial_": True}


def load_run(
    options: SavedRunOptions, runtime: Runtime, *, other_graph: str | None = None, storage: str | None = None
) -> tuple[Run, Path]:
    """Loads a run with its trained discriminator. Collective.

    Args:
        options: the run folder; the name of a checkpoint, None for the best of the last stage; and where the files of
            the graph are now, None for where they were when the run was trained.
        runtime: the ranks of this command, which may be more or fewer than when the run was trained.
        other_graph: a folder with train, valid and test files of the same relations and any entities: the run is of
            this graph then. Only for a model that learns no entity vectors. None: the graph that it was trained on.
        storage: where entity rows are: "memory"; "disk", in nameless files in RUN/table, so that they need not fit
            into memory; None: where they were in training.
    Returns:
        The run, whose `discriminator` has the weights of the checkpoint, or their average if the run made one; and the
        folder of that checkpoint.
    Raises:
        InputError: no such run or checkpoint, a damaged one, a graph whose content has changed since training, or no
            such storage for this model.

    Example:
        run, checkpoint = load_run(SavedRunOptions("outputs/...", None, GraphPlace(None, None, None)), runtime)
    """
    found = _find(options, runtime, storage)
    if other_graph is not None:
        return found.attempt(lambda: _on_other_graph(found, other_graph, runtime)), found.checkpoint
    run = found.attempt(lambda: build_run(found.config, runtime, loaded=True))
    found.check_graph(run.graph)
    found.checkpointer.load_trained(found.checkpoint, {"discriminator": run.discriminator})
    return run, found.checkpoint


def _on_other_graph(found: "_Found", folder: str, runtime: Runtime) -> Run:
    """See `load_run`, `other_graph`. Collective."""
    if learns_vectors(found.config.discriminator):
        raise InputError(
            f"other_graph: the model of {found.folder} has a vector for each entity of its own graph and none for "
            f"others; train one that has no entity vectors, discriminator=nbfnet, got {folder}"
        )
    trained_on = read_graph(found.config, runtime)
    found.check_graph(trained_on)
    try:
        read = runtime.first_then_others(lambda: read_folder(folder, cache=found.config.graph.get("cache")))
        graph = with_relations_of(read, trained_on)
    except InputError as error:
        raise InputError(f"other_graph={folder}: {error}") from error
    model = build_model(found.config, graph, runtime, loaded=True)
    load_trained_dense(found.checkpoint, "discriminator", model)
    model.encode()
    return Run(found.config, runtime, graph, model)


def open_run(options: SavedRunOptions, runtime: Runtime) -> tuple[KnowledgeGraph, KGEModel, TrainedRows, Path]:
    """Loads a run's trained model in one process, but for its entity rows, which need not fit into memory.

    With an encoder, entity rows are in memory.

    Args:
        options: as for `load_run`.
        runtime: of one rank.
    Returns:
        The graph; the model; the entity rows, as scores see them, to be read a block at a time; and the folder
        of the checkpoint.
    Raises:
        InputError: as for `load_run`.
    """
    found = _find(options, runtime)
    graph = found.attempt(lambda: read_graph(found.config, runtime))
    found.check_graph(graph)
    model, rows = found.attempt(lambda: open_model(found.config, graph, found.checkpoint, runtime))
    return graph, model, rows, found.checkpoint


@dataclass(frozen=True)
class _Found:
    """What a run folder holds, before its graph is loaded. The files of the checkpoint have been checked."""

    folder: Path
    config: DictConfig
    checkpoint: Path
    checkpointer: Checkpointer
    fingerprint: str

    def attempt(self, make: Callable[[], _T]) -> _T:
        """Makes a part of the run from its config."""
        try:
            return make()
        except TypeError as error:  # a constructor misses an option
            path, reason = self.folder / "config.yaml", str(error).splitlines()[0]
            raise InputError(f"{path}: no run can be made of it: {reason}") from error

    def check_graph(self, graph: KnowledgeGraph, section: str = "graph") -> None:
        """Raises InputError unless the run was trained on this graph.

        Args:
            section: the options that say where the graph is, for the error: SECTION.root and SECTION.path.
        """
        if graph.fingerprint() == self.fingerprint:
            return
        place = [f"{section}.{key}=DIR" for key in ("root", "path") if key in self.config.graph]
        changed = f"its files have changed; say where the right ones are with {place[0]}" if place else "it has changed"
        raise InputError(
            f"run: {self.folder} was trained on a graph with fingerprint {self.fingerprint}, but {graph.name} now has "
            f"{graph.fingerprint()}: {changed}"
        )


def _find(options: SavedRunOptions, runtime: Runtime, storage: str | None = None) -> _Found:
    """Reads the config and checks the files of the checkpoint. Collective."""
    folder = _folder(options)
    config = _read_config(folder, options, storage)
    checkpoint = _choose_checkpoint(folder, options.checkpoint)
    checkpointer = Checkpointer(checkpoint.parent, runtime, keep=1)
    manifest = checkpointer.read_manifest(checkpoint, "graph")
    return _Found(folder, config, checkpoint, checkpointer, manifest["graph"])


def load_graph(options: SavedRunOptions, runtime: Runtime) -> tuple[KnowledgeGraph, Path]:
    """The graph that a run was trained on, and the folder of its checkpoint, of which all files are right. Collective.

    As `load_run` otherwise, but errors say grow.path, not graph.path.
    """
    found = _find(options, runtime)
    graph = runtime.first_then_others(lambda: instantiate(found.config.graph))
    found.check_graph(graph, "grow")
    return graph, found.checkpoint


def trained_on(options: SavedRunOptions, runtime: Runtime) -> str:
    """The fingerprint of the graph that a run was trained on, as its checkpoint says.

    Raises:
        InputError: no such run or checkpoint, or a damaged one.
    """
    checkpoint = _choose_checkpoint(_folder(options), options.checkpoint)
    return Checkpointer(checkpoint.parent, runtime, keep=1).read_manifest(checkpoint, "graph")["graph"]


def _folder(options: SavedRunOptions) -> Path:
    if options.run is None:
        raise InputError("run must be a run folder, as in run=outputs/..., it is not given")
    folder = Path(options.run)
    if not is_file(folder / "config.yaml"):
        raise InputError(f"run must be a run folder, one with a config.yaml, got {folder}")
    return folder


def _read_config(folder: Path, options: SavedRunOptions, storage: str | None) -> DictConfig:
    """The options of a run folder, which may come from someone else; checked after the user's options are set."""
    path = folder / "config.yaml"
    values = read_yaml(path)
    for key in _NEEDED:
        _need(path, values, *key.split("."))
    values["placement"] = _PLACEMENT | _placed(folder, values, storage)
    for of_the_user in ("tracker", "trackers"):
        values.pop(of_the_user, None)
    for key in ("root", "path"):
        value = getattr(options.graph, key)
        if value is not None:
            if key not in values["graph"]:
                raise InputError(f"graph.{key}: the graph of {folder} has no such option, got {value}")
            values["graph"][key] = value
    for key in GONE:
        section, name = key.split(".")
        values[section].pop(name, None)
    if "cache" in values["graph"]:
        values["graph"]["cache"] = options.graph.cache
    check_plain(path, values)
    try:
        typed = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(RunOptions), values))
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0][:300]}") from error
    config = OmegaConf.create(_given(typed))
    assert isinstance(config, DictConfig)
    return config


def _placed(folder: Path, values: dict[str, Any], storage: str | None) -> dict[str, Any]:
    """The options of a table on disk, in the run's folder, if it is to be there; their values are checked later.

    Args:
        values: of the run's config.
        storage: see `load_run`.
    """
    if storage not in ("memory", "disk", None):
        raise InputError(f"storage must be memory, disk or null, got {storage!r}")
    if storage == "disk" and values.get("encoder") is not None:
        raise InputError("storage=disk: the rows that an encoder makes are in memory; leave storage out")
    placement = values.get("placement")
    kept = placement if isinstance(placement, dict) and placement.get("storage") == "disk" else {}
    if storage == "memory" or (storage is None and not kept):
        return {}
    chosen = {key: kept[key] for key in ("shards", "resident") if key in kept}
    return chosen | {"storage": "disk", "folder": str(folder / "table")}


def _need(path: Path, values: Any, *key: str) -> None:
    for part in key:
        if not isinstance(values, dict) or values.get(part) is None:
            raise InputError(f"{path} is damaged: it has no {'.'.join(key)}")
        values = values[part]


def _given(values: Any) -> Any:
    """The values without missing ones, which a run of an earlier version does not have."""
    if not isinstance(values, dict):
        return values
    return {key: _given(value) for key, value in values.items() if value != "???"}


def _choose_checkpoint(folder: Path, name: str | None) -> Path:
    """The checkpoint of this name; None: the one that the run's result is of."""
    if name is None:
        return trained_checkpoint(folder)
    checkpoint = folder / "checkpoints" / name
    return checkpoint if is_file(checkpoint / "manifest.json") else find_checkpoint(folder, name, "checkpoint")
