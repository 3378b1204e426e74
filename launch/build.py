"""Makes the objects of a run from its config: first its graph and model, then the trainer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from embedding.model import KGEModel
from launch.built_run import Run
from launch.given_negatives import tell_of_held_out
from launch.graph_and_model import build_model, read_graph
from launch.memory import require_memory
from launch.parts import build_sampler, instantiate, name_key
from launch.pretrained import load_pretrained
from launch.splits import without_validation
from launch.stages import build_stages
from trainer.checkpoint import Checkpointer, Player
from trainer.cost import Cost
from trainer.diagnostics import Diagnostics
from trainer.disks import Disks
from trainer.loop import Trainer
from trainer.observer import Observer
from trainer.runtime import Runtime
from trainer.stage import Stage
from trainer.tracking.json_lines import JsonLinesTracker
from trainer.tracking.tracker import Tracker
from trainer.validation import Validation


def build_run(config: DictConfig, runtime: Runtime, *, trains: bool = False, loaded: bool = False) -> Run:
    """Loads the graph, assigns entities to ranks, and makes the discriminator's model. Collective.

    The first half of every command; see `build_trainer` and `load_run`.

    Args:
        config: the resolved config of a run. Values of conf/ that are too large for the graph are changed in it.
        runtime: the ranks and devices of this command.
        trains: the run will be trained: its memory is estimated first.
        loaded: a checkpoint is loaded into all models next, so entity rows get no initial values, which take time.
    Returns:
        The run, with an untrained discriminator.
    Raises:
        InputError: an option is wrong, the graph can't be read or has no train triples, or the tables do not fit.

    Example:
        run = build_run(config, Runtime.start(device="cpu", timeout_seconds=60.0))
        build_trainer(run, Path("outputs/run")).fit()
    """
    graph = read_graph(config, runtime)
    if trains:
        # Before the tables: sorting takes memory that is free again when they are made.
        runtime.first_then_others(lambda: graph.known)
        require_memory(config, graph, runtime)
    return Run(config, runtime, graph, build_model(config, graph, runtime, loaded=loaded))


def build_trainer(run: Run, folder: Path, *, resumed: bool = False, disks: Disks | None = None) -> Trainer:
    """Makes the sampler, the stages (pre-training and the last one) and their trainer. Collective.

    Args:
        run: from `build_run`.
        folder: the run folder: checkpoints and metrics are written here.
        resumed: True if the caller will resume a checkpoint: then `pretrain.*.checkpoint` is not loaded.
        disks: which ranks see the same run folder; None: all do.
    Returns:
        A trainer at step 0; call `fit` to train, or `resume` first.
    Raises:
        InputError: an option is wrong, or a checkpoint of pre-training does not fit this run.
    """
    config, runtime = run.config, run.runtime
    without_validation(config, run.graph)
    options = config.trainer
    sampler = build_sampler(config.generator, replace(run.context, player=run.discriminator), "generator")
    models = {"discriminator": run.discriminator}
    if sampler.model is not None:
        models["generator"] = sampler.model
    checkpointer = Checkpointer(folder / "checkpoints", runtime, keep=options.keep_checkpoints, disks=disks)
    for name in () if resumed else ("generator", "discriminator"):
        # First, because a player adds its loss to what is loaded with the model.
        load_pretrained(config, run.graph, name, models, checkpointer)
    stages = build_stages(run, sampler, models)
    tell_of_held_out(run.graph, stages)
    validation = Validation(
        run.evaluator(run.known_in_validation),
        run.graph.valid,
        metric=options.metric,
        sample=options.valid_sample,
        seed=config.seed,
    )
    return Trainer(
        runtime,
        stages,
        {name: Player(model, None) for name, model in models.items()},
        validation=validation,
        diagnostics=Diagnostics(
            runtime,
            run.context.known,
            run.hidden,
            run.held_out,
            log_digests=options.log_digests,
            log_usage=options.log_usage,
        ),
        checkpointer=checkpointer,
        trackers=_trackers(config) if runtime.is_first else [],
        manifest=_manifest(run, stages),
        log_every=options.log_every,
        checkpoint_minutes=options.checkpoint_minutes,
        cuda_graph=options.cuda_graph,
        deterministic=options.deterministic,
        observers=_observers(run, models),
    )


def _manifest(run: Run, stages: Sequence[Stage]) -> dict[str, Any]:
    """What a run resumed from a checkpoint must share with the run that saved it."""
    config, options = run.config, run.config.trainer
    order = "sections" if stages[-1].order.num_sections > 1 else None
    if run.positives[1] is not None:
        order = run.order_of_shards
    return {
        "seed": config.seed,
        "trainer.batch_size": options.batch_size,
        "trainer.chunk_size": options.chunk_size,
        "trainer.sides": options.sides,
        "trainer.subsampling": options.subsampling,
        "trainer.metric": options.metric,
        "trainer.valid_sample": options.valid_sample,
        "generator": config.generator._target_,
        "stages": [stage.name for stage in stages],
        "graph": run.graph.fingerprint(),
        # Earlier versions shuffled the whole of a large graph, and named no order.
        **({} if order is None else {"order": order}),
    }


def _observers(run: Run, models: dict[str, KGEModel]) -> list[Observer]:
    if run.config.quality is None:
        return []
    measure = instantiate(run.config.quality)
    quality = name_key("quality", lambda: measure(run.runtime, run.graph, run.context.known, run.config.seed))
    return [quality, Cost(run.runtime, models.values())]


def _trackers(config: DictConfig) -> list[Tracker]:
    """The chosen trackers, after the one that every run has."""
    return [JsonLinesTracker(), *(instantiate(tracker) for tracker in config.trackers.values())]
