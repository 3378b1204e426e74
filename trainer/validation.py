"""Validation during training: ranks valid triples, and tells by one metric how good a model is."""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from embedding.model import KGEModel
from graph.distinct_sample import distinct_sample
from graph.errors import InputError
from trainer.evaluate import SIDES, RankingEvaluator, RankingMetrics

METRICS = ("mrr", "hits@1", "hits@3", "hits@10")
"""The metrics that can choose a checkpoint; the higher the better."""
GROUPS = ("valid", "valid_sample")
"""What names of metrics begin with: of all valid triples, and of a sample of them."""


@dataclass(frozen=True)
class Ranking:
    """The result of a validation."""

    value: float
    """The metric that chooses the best checkpoint, over heads and tails. Equal on all ranks."""
    metrics: dict[str, float | int]
    """All metrics by the names that trackers show, such as `valid/mrr` and `valid/tail/hits@10`.

    Of a sample the names begin with `valid_sample`, so that they are not taken for those of all valid triples.
    """

    @property
    def of_split(self) -> RankingMetrics | None:
        """The ranking of all valid triples; None if only a sample was ranked."""
        sides = {
            side: {
                name.removeprefix(f"valid/{side}/"): value
                for name, value in self.metrics.items()
                if name.startswith(f"valid/{side}/")
            }
            for side in SIDES
        }
        return RankingMetrics(**sides) if all(sides.values()) else None


class Validation:
    """Ranks the valid triples. One metric chooses best checkpoints, early stopping and the plateau schedule.

    Args:
        evaluator: filters by the facts that validation may know.
        valid: the valid triples.
        metric: one of `METRICS`.
        sample: how many of the valid triples are ranked, always the same ones; None: all.
        seed: the seed that the sample is drawn by.

    Raises:
        InputError: there is no such metric, or there are not so many valid triples.
    """

    def __init__(
        self,
        evaluator: RankingEvaluator,
        valid: Int64[Tensor, "T 3"],
        *,
        metric: str,
        sample: int | None,
        seed: int,
    ) -> None:
        if metric not in METRICS:
            raise InputError(f"trainer.metric must be one of {', '.join(METRICS)}, got {metric!r}")
        if sample is not None and not 1 <= sample <= len(valid):
            raise InputError(
                f"trainer.valid_sample must be at least 1 and at most the {len(valid)} valid triples, or null, "
                f"got {sample}"
            )
        self.evaluator = evaluator
        drawn = None if sample is None else distinct_sample("validation sample", len(valid), sample, seed)
        self.triples = valid if drawn is None else valid[drawn]
        self.metric = metric
        self.group = "valid" if sample is None else "valid_sample"

    @property
    def name(self) -> str:
        """The name of the metric in `metrics.jsonl`, such as `valid/mrr`."""
        return f"{self.group}/{self.metric}"

    def line(self, value: float) -> str:
        """A value of the metric as a text for the log."""
        of = "" if self.group == "valid" else f" of {len(self.triples)} sampled triples"
        return f"validation {self.metric}{of} {value:.4f}"

    def of(self, model: KGEModel) -> Ranking:
        """Ranks the triples by a model. Collective."""
        metrics = self.evaluator.evaluate(model, self.triples).as_dict()
        both = metrics["both"]
        named: dict[str, float | int] = {f"{self.group}/{name}": both[name] for name in ("mrr", self.metric)}
        named |= {f"{self.group}/{side}/{name}": value for side, of in metrics.items() for name, value in of.items()}
        return Ranking(both[self.metric], named)
