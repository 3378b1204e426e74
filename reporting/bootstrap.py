"""Confidence intervals of ranking metrics and of differences between models, by a paired bootstrap over triples."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from trainer.evaluate import TripleRanks

METRICS = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@10": "Hits@10", "mean_rank": "mean rank"}
"""What is compared, and its name in tables; all but the mean rank are better if higher."""
CONFIDENCE = 0.95
_MOST_DRAWS = 1 << 22
"""Triples drawn at a time."""


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside, so that a difference is more than chance in the choice of triples."""
        return self.low > 0 or self.high < 0


def values_of(ranks: TripleRanks) -> Float64[Tensor, "T M"]:
    """The value of each of `METRICS` for each triple: the mean of its head's and its tail's."""
    sides = torch.stack([ranks.realistic(side) for side in ("head", "tail")])
    each = [1 / sides, *(sides <= k for k in (1, 3, 10)), sides]
    return torch.stack([value.double().mean(0) for value in each], dim=1)


def resampled_means(values: Float64[Tensor, "R T M"], *, resamples: int, seed: int) -> Float64[Tensor, "resamples R M"]:
    """The means of R models' values over triples drawn with replacement, the same ones for all models.

    A triple is drawn with both of its sides, which are not independent of each other. A function of the seed and of the
    values alone.
    """
    models, triples, metrics = values.shape
    by_triple = values.transpose(0, 1).reshape(triples, models * metrics)
    draws = torch.Generator().manual_seed(seed)
    at_once = max(1, _MOST_DRAWS // triples)
    means = []
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn: Int64[Tensor, "rows T"] = torch.randint(triples, (rows, triples), generator=draws)
        count = torch.zeros((rows, triples), dtype=torch.float64)
        count.scatter_add_(1, drawn, torch.ones_like(count))
        means.append(count @ by_triple / triples)
    return torch.cat(means).view(resamples, models, metrics)


def intervals(
    whole: Float64[Tensor, "*shape"], resampled: Float64[Tensor, "resamples *shape"]
) -> tuple[Float64[Tensor, "*shape"], Float64[Tensor, "*shape"]]:
    """The lower and the upper bound: percentiles of the resampled values (Efron and Tibshirani, 1993, section 13.3)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low.view_as(whole), high.view_as(whole)
