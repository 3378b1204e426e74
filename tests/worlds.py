"""Small worlds for tests: graphs, models on one rank of several, samplers, batches, and whole runs."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from discriminator.discriminator import Discriminator
from discriminator.loss.loss import Loss
from discriminator.loss.margin_ranking import MarginRanking
from discriminator.loss.softmax import Softmax
from discriminator.reward import ScoreReward
from embedding.encoder.choice import EncoderChoice
from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import DenseAdam, LazyAdam
from embedding.paths.nbfnet import NBFNet
from embedding.scoring.conve import ConvE
from embedding.scoring.distmult import DistMult
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transe import TransE
from embedding.scoring.tucker import TuckER
from embedding.site import ModelSite
from generator.baseline import Baseline, PreviousEpoch
from generator.bernoulli import BernoulliSampler
from generator.kbgan import KBGANSampler
from generator.sampler import NegativeSampler, SamplerContext
from graph.batch import Batch
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownTriples
from graph.partition import random_placement
from graph.sampling import PositiveOrder
from graph.statistics import RelationStatistics
from graph.synthetic import family_graph
from trainer.averaging.average import Average
from trainer.checkpoint import Checkpointer, Player
from trainer.diagnostics import Diagnostics
from trainer.evaluate import RankingEvaluator
from trainer.loop import Trainer
from trainer.runtime import Runtime
from trainer.schedule.constant import Constant
from trainer.schedule.schedule import Schedule
from trainer.stage import Stage
from trainer.tracking.json_lines import JsonLinesTracker
from trainer.tracking.tracker import Title, Tracker
from trainer.validation import Validation


@cache
def families() -> KnowledgeGraph:
    """128 entities, 20 relations, 1,711 train triples, and true ones that it hides."""
    return family_graph(num_people=100, hidden_share=0.1, valid_share=0.05, test_share=0.05, seed=0)


def graph_of(triples: list[tuple[int, int, int]], num_entities: int, num_relations: int) -> KnowledgeGraph:
    """A graph with these train triples and no others."""
    none = torch.empty((0, 3), dtype=torch.int64)
    return KnowledgeGraph(
        name="by hand",
        entity_names=[f"e{number}" for number in range(num_entities)],
        relation_names=[f"r{number}" for number in range(num_relations)],
        train=torch.tensor(triples, dtype=torch.int64).view(-1, 3),
        valid=none,
        test=none,
    )


def one_rank() -> Runtime:
    return Runtime(0, 1, torch.device("cpu"))


def site_of(
    graph: KnowledgeGraph,
    runtime: Runtime | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 3,
    storage: str = "memory",
    exchange: str | None = None,
) -> ModelSite:
    runtime = runtime or one_rank()
    return ModelSite(
        placement=random_placement(graph, seed, storage=storage, exchange=exchange),
        num_relations=graph.num_relations,
        rank=runtime.rank,
        world_size=runtime.world_size,
        device=runtime.device,
        dtype=dtype,
        seed=seed,
        train=graph.train,
    )


def context_of(graph: KnowledgeGraph, site: ModelSite | None = None, player: KGEModel | None = None) -> SamplerContext:
    return SamplerContext(
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        known=KnownTriples.of(graph.train, graph.num_entities, graph.num_relations),
        statistics=RelationStatistics.of(graph.train, graph.num_entities, graph.num_relations),
        site=site or site_of(graph),
        train=graph.train,
        entity_names=graph.entity_names,
        relation_names=graph.relation_names,
        player=player,
    )


def transe(dim: int) -> ScoringFunction:
    return TransE(dim, norm=1, precision="float32")


def distmult(dim: int) -> ScoringFunction:
    return DistMult(dim, precision="float32")


def tucker(
    dim: int,
    *,
    relation_dim: int = 3,
    batch_norm: bool = False,
    hidden1_dropout: float = 0.0,
    hidden2_dropout: float = 0.0,
    precision: str = "float32",
) -> TuckER:
    return TuckER(dim, relation_dim, batch_norm, hidden1_dropout, hidden2_dropout, precision)


def conve(
    dim: int,
    *,
    height: int = 3,
    kernel: int = 3,
    num_filters: int = 2,
    batch_norm: bool = False,
    feature_map_dropout: float = 0.0,
    projection_dropout: float = 0.0,
    precision: str = "float32",
) -> ConvE:
    return ConvE(dim, height, kernel, num_filters, batch_norm, feature_map_dropout, projection_dropout, precision)


def nbfnet_of(
    site: ModelSite,
    *,
    dim: int = 6,
    layers: int = 2,
    most_edges: int | None = None,
    leave_out: str = "facts",
    **others: Any,
) -> KGEModel:
    scoring = partial(NBFNet, layers=layers, most_edges=most_edges, leave_out=leave_out)
    return model_of(site, dim=dim, scoring=scoring, **{"reciprocal": True} | others)


MODEL_OPTIONS: dict[str, Any] = {
    "max_norm": None,
    "init": "uniform",
    "init_scale": None,
    "relation_init_scale": None,
    "entity_dropout": 0.0,
    "relation_dropout": 0.0,
    "reciprocal": False,
}
"""What conf/discriminator says of most models, without their scoring function."""


def model_of(
    site: ModelSite,
    *,
    name: str = "discriminator",
    dim: int = 4,
    scoring: Callable[[int], ScoringFunction] = transe,
    max_norm: float | None = None,
    reciprocal: bool = False,
    **others: Any,
) -> KGEModel:
    options = MODEL_OPTIONS | {"max_norm": max_norm, "reciprocal": reciprocal} | others
    return KGEModel(site, name=name, dim=dim, scoring=scoring, **options)


def adam(model: KGEModel) -> ModelOptimizer:
    return DenseAdam(
        model, lr=0.02, relation_lr=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=None
    )


def lazy_adam(model: KGEModel) -> ModelOptimizer:
    return LazyAdam(model, lr=0.02, relation_lr=None, beta1=0.9, beta2=0.999, eps=1e-8, clip_norm=None)


def player_of(
    model: KGEModel, loss: Loss | None = None, optimizer: Callable[[KGEModel], ModelOptimizer] = adam
) -> Discriminator:
    return Discriminator(model, loss=loss or MarginRanking(3.0), reward=ScoreReward(), optimizer=optimizer)


@torch.no_grad()
def set_entities(model: KGEModel, rows: Float[Tensor, "E D"]) -> None:
    """Gives each entity its row, whichever rank and place it has."""
    model.entity.weight.copy_(rows[model.entity.entity])


def kbgan_of(context: SamplerContext, **options: Any) -> KBGANSampler:
    defaults: dict[str, Any] = {
        "model": partial(KGEModel, **MODEL_OPTIONS | {"init_scale": 0.7}, scoring=distmult),
        "optimizer": adam,
        "dim": 4,
        "num_negatives": 2,
        "pool_size": 6,
        "temperature": 1.0,
        "side": "uniform",
        "estimator": "reinforce",
        "baseline": PreviousEpoch(),
        "replacement": True,
        "entropy_weight": 0.0,
        "entropy_floor": None,
        "normalise_reward": False,
        "mask_known": False,
    }
    options = defaults | options
    # Its own, also if the options of two samplers name the same one.
    return KBGANSampler(context, **(options | {"baseline": deepcopy(options["baseline"])}))


def order_of(
    graph: KnowledgeGraph,
    sampler: NegativeSampler,
    *,
    batch_size: int = 32,
    chunk_size: int = 1,
    sides: str = "one",
    seed: int = 3,
) -> PositiveOrder:
    sizes = {"batch_size": batch_size, "chunk_size": chunk_size}
    return PositiveOrder(graph.train, sampler.head_probability, **sizes, sides=sides, seed=seed)


def batch_of(
    triples: Int[Tensor, "T 3"], *, heads: int = 0, chunk_size: int = 1, seed: int = 3, epoch: int = 0, first: int = 0
) -> Batch:
    """A batch whose first `heads` chunks corrupt the head; its chunks are numbered from `first` on."""
    head, relation, tail = triples.long().unbind(1)
    chunks = len(triples) // chunk_size
    return Batch(
        head=head,
        relation=relation,
        tail=tail,
        weight=torch.ones(len(triples), dtype=torch.float64),
        chunk=torch.arange(first, first + chunks),
        head_chunks=heads,
        chunk_size=chunk_size,
        seed=seed,
        epoch=epoch,
        global_weight=max(float(len(triples)), 1.0),
    )


def in_order(parts: list[tuple[Tensor, int]]) -> Tensor:
    """Values of the ranks' parts of a batch, of which so many are of head chunks, in the order of the whole batch."""
    return torch.cat([*(value[:heads] for value, heads in parts), *(value[heads:] for value, heads in parts)])


def no_opinion(entity: Int64[Tensor, "C M"]) -> Float[Tensor, "B M"]:
    """A discriminator's scores for samplers that do not ask for them."""
    raise AssertionError("this sampler was not to ask for scores")


TITLE = Title(name="a run", group=None, job_type="train", tags=())


@dataclass
class KBGANRun:
    """A small KBGAN run of three stages, as `launch/build.py` makes one."""

    folder: Path
    runtime: Runtime = field(default_factory=one_rank)
    dtype: torch.dtype = torch.float64
    epochs: int = 2
    valid_every: int = 1
    metric: str = "mrr"
    sample: int | None = None
    patience: int = 0
    log_every: int = 1
    checkpoint_minutes: float = 0.0
    """By a clock that goes a minute with each step."""
    chunk_size: int = 1
    loss: Loss | None = None
    baseline: Baseline = field(default_factory=PreviousEpoch)
    trackers: list[Tracker] = field(default_factory=list)
    schedule: Schedule = field(default_factory=lambda: Constant(warm_up=0.0))
    average: Average | None = None
    dropout: float = 0.0
    """Of entity and relation rows of the discriminator."""
    encoder: Callable[[EncoderSite], Encoder] | None = None
    """In front of the discriminator."""
    storage: str = "memory"
    exchange: str | None = None

    def __post_init__(self) -> None:
        # A third of the triples: 5 steps an epoch.
        self.graph = replace(families(), train=families().train[::3], valid=families().valid[:20])
        placed = {"storage": self.storage, "exchange": self.exchange}
        context = context_of(self.graph, site_of(self.graph, self.runtime, dtype=self.dtype, **placed))
        if self.encoder is None:
            dropout = {"entity_dropout": self.dropout, "relation_dropout": self.dropout}
            self.model = model_of(context.site, max_norm=1.0, **dropout)
        else:
            self.model = model_of(context.site, encoder=EncoderChoice(self.encoder, self.graph.train))
        self.sampler = kbgan_of(context, side="bernoulli", baseline=self.baseline)
        known = partial(KnownTriples.of, num_entities=self.graph.num_entities, num_relations=self.graph.num_relations)
        self.trainer = Trainer(
            self.runtime,
            stages := self._stages(context),
            {"discriminator": Player(self.model, None), "generator": Player(self.sampler.model, None)},
            validation=Validation(
                self._evaluator(known), self.graph.valid, metric=self.metric, sample=self.sample, seed=3
            ),
            diagnostics=Diagnostics(
                self.runtime,
                context.known,
                known(self.graph.hidden),
                known(self.graph.valid),
                log_digests=True,
                log_usage=False,
            ),
            checkpointer=Checkpointer(self.folder / "checkpoints", self.runtime, keep=2),
            trackers=[JsonLinesTracker(), *self.trackers] if self.runtime.is_first else [],
            manifest={
                "seed": 3,
                "graph": self.graph.fingerprint(),
                "trainer.metric": self.metric,
                "stages": [stage.name for stage in stages],
            },
            log_every=self.log_every,
            checkpoint_minutes=self.checkpoint_minutes,
        )
        self.trainer.saver.clock = lambda: 60.0 * self.trainer.cursor.step

    def _evaluator(self, known: Callable[[Tensor], KnownTriples]) -> RankingEvaluator:
        return RankingEvaluator(known(torch.cat([self.graph.train, self.graph.valid])), self.runtime, memory_mb=1)

    def _stages(self, context: SamplerContext) -> list[Stage]:
        random = BernoulliSampler(context, num_negatives=4, mask_known=False, redraw_known=False)
        one = BernoulliSampler(context, num_negatives=1, mask_known=False, redraw_known=False)
        order = partial(order_of, self.graph, batch_size=128, chunk_size=self.chunk_size)
        common = {
            "epochs": self.epochs,
            "valid_every": self.valid_every,
            "patience": self.patience,
            "schedule": self.schedule,
        }
        trained = player_of(self.model, self.loss)
        return [
            Stage(
                "pretrain_generator",
                "generator",
                player_of(self.sampler.model, Softmax()),
                random,
                order(random),
                **common,
            ),
            Stage("pretrain_discriminator", "discriminator", trained, one, order(one), **common),
            Stage(
                "adversarial",
                "discriminator",
                trained,
                self.sampler,
                order(self.sampler),
                **common,
                average=self.average,
            ),
        ]

    def fit(self) -> None:
        """Trains, with its trackers, as `launch/train.py` does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for tracker in self.trainer.trackers:
            tracker.start(self.folder, {}, title=TITLE, run_id=None, from_step=self.trainer.cursor.step)
        try:
            self.trainer.fit()
        finally:
            for tracker in self.trainer.trackers:
                tracker.finish(None)

    def parameters(self) -> dict[str, Tensor]:
        """Everything that training changed, by entity id. Collective."""
        values: dict[str, Tensor] = {}
        for name, player in self.trainer.players.items():
            values[f"{name} entity"] = player.model.entity.gather_all(player.model.entity.weight.detach())
            values |= {f"{name} {key}": value.clone() for key, value in player.model.scorer.state_dict().items()}
        return values
