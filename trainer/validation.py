"""Validation during training: ranks valid triples, and tells by one metric how good a model is."""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from embedding.model import KGEModel
from graph.errors import InputError
from trainer.evaluate import RankingEvaluator

METRICS = ("mrr", "hits@1", "hits@3", "hits@10")
"""The metrics that can choose a checkpoint; the higher the better."""


@dataclass(frozen=True)
class Validated:
    """The result of a validation."""

    value: float
    """The metric that chooses the best checkpoint, over heads and tails."""
    metrics: dict[str, float]
    """All metrics by the names that trackers show, such as `valid/mrr` and `valid/tail/hits@10`."""


class Validation:
    """Ranks the valid triples. One metric chooses best checkpoints, early stopping and the plateau schedule.

    Args:
        evaluator: filters by the facts that validation may know.
        valid: the valid triples.
        metric: one of `METRICS`.

    Raises:
        InputError: there is no such metric.
    """

    def __init__(self, evaluator: RankingEvaluator, valid: Int64[Tensor, "T 3"], *, metric: str) -> None:
        if metric not in METRICS:
            raise InputError(f"trainer.metric must be one of {', '.join(METRICS)}, got {metric!r}")
        self.evaluator = evaluator
        self.triples = valid
        self.metric = metric

    @property
    def name(self) -> str:
        """The name of the metric in `metrics.jsonl`, such as `valid/mrr`."""
        return f"valid/{self.metric}"

    def of(self, model: KGEModel) -> Validated:
        """Ranks the triples by a model. Collective."""
        metrics = self.evaluator.evaluate(model, self.triples).as_dict()
        both = metrics["both"]
        named = {f"valid/{name}": both[name] for name in dict.fromkeys(("mrr", self.metric)) if name in both}
        named |= {f"valid/{side}/{name}": value for side, of in metrics.items() for name, value in of.items()}
        return Validated(both[self.metric], named)
