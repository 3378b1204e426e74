"""Begins a run with the model of another run, on a graph that has more entities, relations or triples."""

from pathlib import Path
from typing import Any

import pyarrow.compute
import torch
from jaxtyping import Int64
from omegaconf import DictConfig
from torch import Tensor

from graph.arrow_names import as_array
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from launch.built_run import Run
from launch.same_model import refuse_another_model
from launch.saved_run import load_graph
from launch.trained_options import GraphPlace, SavedRunOptions
from trainer.loop import Trainer
from trainer.manifest import load_manifest
from trainer.origin import Origin, Renumbering

pc: Any = pyarrow.compute


def refuse_what_does_not_go_together(config: DictConfig) -> None:
    """Raises InputError for options of `grow` without a run, or beside another way to begin."""
    grow = config.grow
    if grow.run is None:
        for key in ("root", "path", "freeze_known"):
            if grow[key]:
                raise InputError(f"grow.{key} has no effect without grow.run=RUN, got {grow[key]}")
        return
    if config.resume is not None:
        raise InputError(f"grow.run={grow.run} begins a new run, so leave out resume={config.resume}, or grow.run")
    for name in ("generator", "discriminator"):
        for key in ("epochs", "checkpoint"):
            if config.pretrain[name][key]:
                raise InputError(
                    f"pretrain.{name}.{key} has no place beside grow.run, whose models are trained, "
                    f"got {config.pretrain[name][key]}"
                )


def grow(config: DictConfig, run: Run, trainer: Trainer) -> str | None:
    """Lets the trainer begin with the models and optimisers of `grow.run`, if that is given. Collective.

    Returns:
        A line to log, or None if the run does not begin so.

    Raises:
        InputError: that run can't be read, has not begun its last stage, or has names that this graph lacks.
    """
    options = config.grow
    if options.run is None:
        return None
    if not run.discriminator.has_vectors:
        raise InputError(
            f"grow.run={options.run} can't be used with a model without entity vectors: it has none to begin with; "
            "ask the trained model about the larger graph with other_graph=DIR"
        )
    place = GraphPlace(root=options.root, path=options.path, cache=config.graph.get("cache"))
    try:
        smaller, checkpoint = load_graph(SavedRunOptions(options.run, None, place), run.runtime)
    except InputError as error:
        raise InputError(f"grow.{error}" if str(error).startswith("run") else f"grow.run: {error}") from error
    refuse_another_model(config, checkpoint, "grow.run")
    manifest = load_manifest(checkpoint, "stages", "cursor")
    if manifest["cursor"]["stage"] < len(manifest["stages"]) - 1:
        raise InputError(f"grow.run: {options.run} has not begun its last stage; resume it first")
    renumbering = _renumbering(smaller, run.graph, Path(options.run))
    new = [
        run.graph.num_entities - smaller.num_entities,
        run.graph.num_relations - smaller.num_relations,
    ]
    if options.freeze_known and not any(new):
        raise InputError(
            f"grow.freeze_known=true: {run.graph.name} has no entity and no relation that {options.run} does not "
            "have, so nothing would learn"
        )
    trainer.saver.origin = Origin(checkpoint, renumbering, options.freeze_known)
    learning = "; only their rows learn" if options.freeze_known else ""
    return f"begins with {checkpoint}; new entities: {new[0]:,}, new relations: {new[1]:,}{learning}"


def _renumbering(smaller: KnowledgeGraph, larger: KnowledgeGraph, run: Path) -> Renumbering:
    ids: list[Int64[Tensor, " E"]] = []
    for what, old, new in (
        ("entities", smaller.entity_names, larger.entity_names),
        ("relations", smaller.relation_names, larger.relation_names),
    ):
        names = as_array(old)
        found = pc.index_in(names, value_set=as_array(new))
        gone = names.filter(pc.is_null(found))
        if len(gone):
            raise InputError(
                f"grow.run: {larger.name} lacks {what} that {run} has ({len(gone):,}, such as "
                f"{gone[0].as_py()[:80]!r}): a graph may gain names and lose none"
            )
        ids.append(torch.tensor(found.to_numpy(), dtype=torch.int64))
    return Renumbering(*ids)
