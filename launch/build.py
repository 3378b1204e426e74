"""Makes the objects of a run from its config: graph, models, sampler, stages, trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int32
from omegaconf import DictConfig
from torch import Tensor

from discriminator.discriminator import Discriminator
from embedding.model import KGEModel
from generator.sampler import NegativeSampler, SamplerContext
from graph.bucket_file import sorted_by_shards
from graph.checked_file import checksum
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownFacts, KnownTriples, together
from graph.sampling import PositiveOrder
from graph.shards import ShardStates
from graph.statistics import RelationStatistics
from graph.subsampling import subsampling_weights
from launch.given_negatives import tell_of_held_out
from launch.graph_and_model import build_model, read_graph
from launch.memory import require_memory
from launch.parts import build_loss, build_sampler, build_term, instantiate, name_key
from launch.pretrained import load_pretrained
from launch.splits import without_validation
from launch.typed import is_typed
from trainer.checkpoint import Checkpointer, Player
from trainer.cost import Cost
from trainer.diagnostics import Diagnostics
from trainer.disks import Disks
from trainer.evaluate import RankingEvaluator
from trainer.loop import Trainer
from trainer.observer import Observer
from trainer.runtime import Runtime
from trainer.schedule.constant import Constant
from trainer.stage import PRETRAINING, Stage
from trainer.tracking.json_lines import JsonLinesTracker
from trainer.tracking.tracker import Tracker
from trainer.validation import Validation

_FEWEST_LINES = 20
_FEWEST_VALIDATIONS = 3


@dataclass(frozen=True)
class Run:
    """The objects that train, evaluate and export need: config, graph, and the discriminator's model."""

    config: DictConfig
    runtime: Runtime
    graph: KnowledgeGraph
    discriminator: KGEModel

    @cached_property
    def context(self) -> SamplerContext:
        """What samplers get; made when it is first asked for, because only training needs it."""
        graph = self.graph
        return SamplerContext(
            num_entities=graph.num_entities,
            num_relations=graph.num_relations,
            known=graph.known.to(self.runtime.device),
            statistics=RelationStatistics.of_facts(graph.known, graph.num_entities),
            site=self.discriminator.site,
            train=graph.train,
            entity_names=graph.entity_names,
            relation_names=graph.relation_names,
        )

    @cached_property
    def positives(self) -> tuple[Int32[Tensor, "T 3"], ShardStates | None]:
        """Train, in the order of shards if only some of them are in memory, and the states of an epoch then."""
        placement = self.discriminator.site.placement
        if placement.disk is None or not placement.disk.has_states:
            return self.graph.train, None
        assert placement.disk.folder is not None
        folder, name = Path(placement.disk.folder), f"positives_{self.graph.fingerprint()}_{self.order_of_shards}"
        return self.runtime.first_then_others(lambda: sorted_by_shards(self.graph.train, placement, folder, name))

    @cached_property
    def order_of_shards(self) -> str:
        """What the states of an epoch depend on, besides the graph."""
        placement = self.discriminator.site.placement
        assert placement.disk is not None
        order = checksum({"order": placement.entity_of_row})
        return f"{placement.disk.resident}_of_{placement.disk.shards}_shards_anew_{order:08x}"

    @property
    def all_known(self) -> KnownFacts:
        """Train, valid and test facts: the filter of the final test ranking, used for nothing else."""
        return together(self.context.known, self._known("valid", "test"))

    @property
    def known_in_validation(self) -> KnownFacts:
        """Train and valid facts: the filter of validation, which must not use test facts."""
        return together(self.context.known, self._known("valid"))

    @property
    def held_out(self) -> KnownTriples:
        """Valid and test facts: used only to report how many negatives are among them."""
        return self._known("valid", "test")

    def _known(self, *splits: str) -> KnownTriples:
        triples = torch.cat([getattr(self.graph, split) for split in splits]).to(self.runtime.device)
        return KnownTriples.of(triples, self.graph.num_entities, self.graph.num_relations)

    def evaluator(self, known: KnownFacts) -> RankingEvaluator:
        """An evaluator that filters ranks by these facts."""
        return RankingEvaluator(known, self.runtime, memory_mb=self.config.trainer.evaluation_memory_mb)


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
    last = _last_stage(run, sampler)
    before = [stage for name in ("generator", "discriminator") for stage in _pretraining(run, name, models)]
    stages = [*before, last]
    tell_of_held_out(run.graph, stages)
    hidden = None
    if len(run.graph.hidden):
        hidden = KnownTriples.of(run.graph.hidden.to(runtime.device), run.graph.num_entities, run.graph.num_relations)
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
            hidden,
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


def _last_stage(run: Run, sampler: NegativeSampler) -> Stage:
    """The run's own stage, after pre-training."""
    config, options = run.config, run.config.trainer
    return Stage(
        name="training" if sampler.model is None else "adversarial",
        trained="discriminator",
        player=_player(run, run.discriminator, config.loss),
        sampler=sampler,
        order=_order(run, sampler),
        epochs=options.epochs,
        valid_every=options.valid_every,
        patience=options.patience,
        schedule=name_key("schedule", lambda: instantiate(config.schedule)),
        average=None if config.average is None else name_key("average", lambda: instantiate(config.average)),
        **_fewest(config, "trainer"),
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


def _pretraining(run: Run, name: str, models: dict[str, KGEModel]) -> list[Stage]:
    """The stage that pre-trains a model; empty if it is skipped or a checkpoint is given."""
    options = run.config.pretrain[name]
    if options.checkpoint is not None or options.epochs == 0:
        return []
    if name not in models:
        raise InputError(
            f"pretrain.{name}.epochs is {options.epochs}, but this run's generator has no model of its own; "
            f"type pretrain.{name}.epochs=0"
        )
    if options.sampler is None or options.loss is None:
        raise InputError(
            f"pretrain.{name}.epochs is {options.epochs}, but its sampler or its loss is not set; type "
            f"pretrain.{name}.epochs=0, or set both with pretrain=nearest"
        )
    context = replace(run.context, player=models[name])
    sampler = build_sampler(options.sampler, context, f"pretrain.{name}.sampler")
    stage = Stage(
        name=f"{PRETRAINING}{name}",
        trained=name,
        player=_player(run, models[name], options.loss, generator=name == "generator"),
        sampler=sampler,
        order=_order(run, sampler),
        epochs=options.epochs,
        valid_every=options.valid_every,
        patience=options.patience,
        schedule=Constant(warm_up=0.0),
        average=None,
        **_fewest(run.config, f"pretrain.{name}"),
    )
    return [stage]


def _fewest(config: DictConfig, key: str) -> dict[str, int]:
    """Fewest log lines and validations of a stage; 0 for an interval that the user typed, which is kept as it is."""
    lines = 0 if is_typed(config, "trainer.log_every") else _FEWEST_LINES
    kept = is_typed(config, "trainer.valid_every") or is_typed(config, f"{key}.valid_every")
    return {"fewest_lines": lines, "fewest_validations": 0 if kept else _FEWEST_VALIDATIONS}


def _player(run: Run, model: KGEModel, loss: DictConfig, *, generator: bool = False) -> Discriminator:
    config = run.config
    optimizer = instantiate(config.generator.optimizer if generator else config.optimizer)
    terms = [] if generator else [build_term(term, run.context) for term in config.terms.values()]
    reward = instantiate(config.reward)
    judge = build_loss(loss, run.context.known)
    make = partial(Discriminator, model, loss=judge, reward=reward, optimizer=optimizer, terms=terms)
    return name_key("generator" if generator else "optimizer", make)


def _order(run: Run, sampler: NegativeSampler) -> PositiveOrder:
    train, states = run.positives
    subsampling = run.config.trainer.subsampling
    looks_up = subsampling or states is not None
    return PositiveOrder(
        train,
        sampler.head_probability,
        batch_size=run.config.trainer.batch_size,
        chunk_size=run.config.trainer.chunk_size,
        sides=run.config.trainer.sides,
        seed=run.config.seed,
        weight=partial(subsampling_weights, run.graph.known) if subsampling else None,
        states=states,
        device=torch.device("cpu") if looks_up else run.runtime.device,
    )


def _trackers(config: DictConfig) -> list[Tracker]:
    """The chosen trackers, after the one that every run has."""
    return [JsonLinesTracker(), *(instantiate(tracker) for tracker in config.trackers.values())]
