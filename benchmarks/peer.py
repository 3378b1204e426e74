# It is an optional dependency, and the checks of a checkout without it must pass too.
# pyright: reportMissingImports=false
"""PyKEEN, the peer: its own training loop and evaluator at the same model, dimension, batch and number of negatives.

It runs as fast as its options allow: no regulariser, no constraint on rows, no progress bar, no worker processes.
Its negatives are drawn for each positive, as it does not share them; Adagrad is its nearest optimiser.
"""

import logging
import time
from functools import partial
from typing import Any

import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import BCEWithLogitsLoss, InfoNCELoss, NSSALoss
from pykeen.models import ComplEx, DistMult, Model, RotatE, TransE
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory
from pykeen.utils import resolve_device

from benchmarks.cases import BATCH, DIMENSION, NEGATIVES, Case, Kind
from benchmarks.project import compose_case
from benchmarks.settings import Settings
from benchmarks.timing import Timing, in_turns
from graph.knowledge_graph import KnowledgeGraph
from launch.parts import instantiate

_MODELS = {
    "transe_l1": partial(TransE, embedding_dim=DIMENSION, scoring_fct_norm=1, entity_constrainer=None),
    "transe_l2": partial(TransE, embedding_dim=DIMENSION, scoring_fct_norm=2, entity_constrainer=None),
    "distmult": partial(DistMult, embedding_dim=DIMENSION, entity_constrainer=None, regularizer=None),
    # PyKEEN counts complex numbers
    "complex": partial(ComplEx, embedding_dim=DIMENSION // 2, regularizer=None),
    "rotate": partial(RotatE, embedding_dim=DIMENSION // 2, relation_constrainer=None),
}
_LOSSES = {"log_sigmoid": BCEWithLogitsLoss, "self_adversarial": NSSALoss, "softmax": InfoNCELoss}
_QUERIES = (16, 128)
"""Batches of queries that its evaluator is tried with; the faster counts."""


class BatchClock(TrainingCallback):
    """Notes when each batch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def post_batch(self, *args: Any, **kwargs: Any) -> None:
        """See `TrainingCallback`."""
        self.ends.append(time.perf_counter())


def measure(case: Case, settings: Settings) -> dict[str, float]:
    """What the peer reaches in a case's work, as "positives/s" or "triples/s"."""
    logging.disable(logging.WARNING)
    graph: KnowledgeGraph = instantiate(compose_case(case, settings.graph).graph)
    make = partial(_MODELS[case.model], random_seed=0)
    if case.kind == Kind.RANK:
        model = make(triples_factory=_factory(graph, graph.train.long())).to(resolve_device())
        return {"triples/s": _rank(model, graph, settings)}
    assert case.loss is not None
    rows = torch.randperm(len(graph.train))[: (settings.peer_batches + 1) * BATCH]
    factory = _factory(graph, graph.train[rows].long())
    model = make(triples_factory=factory, loss=_LOSSES[case.loss]()).to(resolve_device())
    return {"positives/s": BATCH / _train(model, factory).best}


def _train(model: Model, factory: CoreTriplesFactory) -> Timing:
    """Seconds of a batch; the first is left out, in which it sets itself up."""
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adagrad(model.get_grad_params(), lr=0.1),
        negative_sampler="basic",
        negative_sampler_kwargs={"num_negs_per_pos": NEGATIVES},
    )
    clock = BatchClock()
    loop.train(
        factory, num_epochs=1, batch_size=BATCH, use_tqdm=False, num_workers=0, pin_memory=False, callbacks=clock
    )
    return Timing(tuple(end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)))


def _rank(model: Model, graph: KnowledgeGraph, settings: Settings) -> float:
    triples, known = graph.test[: settings.ranked], [graph.train.long(), graph.valid, graph.test]
    works = [
        partial(
            RankBasedEvaluator(filtered=True).evaluate,
            model,
            triples,
            batch_size=size,
            use_tqdm=False,
            do_time_consuming_checks=False,
            additional_filter_triples=known,
        )
        for size in _QUERIES
    ]
    return len(triples) / min(timing.best for timing in in_turns(works, 1))


def _factory(graph: KnowledgeGraph, triples: torch.Tensor) -> CoreTriplesFactory:
    return CoreTriplesFactory(triples, num_entities=graph.num_entities, num_relations=graph.num_relations)
