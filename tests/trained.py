"""Small models in a checkpoint, as an export takes them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from exporting.trained_model import TrainedModel
from launch.build import build_run
from launch.built_run import Run
from launch.opened_model import open_model
from tests.configs import composed
from trainer.checkpoint import Checkpointer, Player
from trainer.runtime import Runtime

# Dimensions and options that make a small model.
SMALL = {"conve": ["discriminator.scoring.height=2", "discriminator.scoring.kernel=2"]}


def trained_model(folder: Path, name: str, *overrides: str) -> tuple[Run, TrainedModel]:
    """A run of this discriminator with initial values, and what an export of it is made of.

    Args:
        folder: an empty folder for its checkpoint.
    """
    options = [f"discriminator={name}", "graph.num_people=100", "discriminator.dim=8", *SMALL.get(name, []), *overrides]
    runtime = Runtime.start(device="cpu", timeout_seconds=1.0)
    run = build_run(composed("train", *options), runtime)
    return run, saved(run, folder)


def saved(run: Run, folder: Path) -> TrainedModel:
    """What an export of this run is made of, with the values that its model has now."""
    checkpoint = Checkpointer(folder, run.runtime, keep=1).save(
        "step_1", {"discriminator": Player(run.discriminator, None)}, {}, {}
    )
    return TrainedModel(run.graph, *open_model(run.config, run.graph, checkpoint, run.runtime), checkpoint)


def renamed(trained: TrainedModel, entities: Sequence[str] = (), relations: Sequence[str] = ()) -> TrainedModel:
    """The same, with other names of the first entities and relations."""
    graph = trained.graph
    names = [*entities, *graph.entity_names[len(entities) :]]
    of_relations = [*relations, *graph.relation_names[len(relations) :]]
    graph = dataclasses.replace(graph, entity_names=names, relation_names=of_relations)
    return dataclasses.replace(trained, graph=graph)
