"""Peak memory of a run that trains and ranks, against what any run must hold."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from benchmarks.cases import Case
from benchmarks.project import Training
from benchmarks.result import Result
from benchmarks.settings import Settings
from benchmarks.timing import in_turns
from benchmarks.training import make
from embedding.model_optimizer import ModelOptimizer
from graph.knowledge_graph import KnowledgeGraph, PackedNames
from trainer.peak import peak_mb

_STEPS = 300
_FACTOR, _ALLOWANCE_MB = 1.3, 600
"""What issue 3 allows: this much of what must be held, and this for torch itself and a step's buffers."""


def measure(case: Case, settings: Settings, folder: Path) -> Result:
    """Trains some hundred steps and ranks a slice; nothing else happens in the process."""
    training = make(case, settings, folder)
    timing = in_turns([lambda: training.steps(_STEPS)], 1)[0] / _STEPS
    run = training.run
    run.evaluator(run.all_known).evaluate(run.discriminator, run.graph.test[: settings.ranked])
    peak, held = peak_mb(), _held_mb(training)
    budget = _FACTOR * held + _ALLOWANCE_MB
    return Result(timing, {"held MB": held, "budget MB": budget, "peak of budget": peak / budget}, {}, peak)


def _held_mb(training: Training) -> float:
    tensors = [*_of_graph(training.run.graph)]
    for player in training.trainer.players.values():
        tensors += [player.model.entity.weight, *player.model.scorer.parameters()]
    for optimizer in (training.stage.player.optimizer, training.stage.sampler.optimizer):
        tensors += [] if optimizer is None else _of_optimizer(optimizer)
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def _of_graph(graph: KnowledgeGraph) -> Iterator[Tensor]:
    yield from (graph.train, graph.valid, graph.test, graph.hidden)
    for names in (graph.entity_names, graph.relation_names):
        packed = PackedNames.pack(names)
        yield from (packed.text, packed.offsets)


def _of_optimizer(optimizer: ModelOptimizer) -> Iterator[Tensor]:
    yield from optimizer.row_state.values()
    yield from optimizer.dense_state().values()
