"""Triple classification: whether a triple is true, by a threshold of its score (Socher et al., NIPS 2013)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """Triples with their scores and whether they are true, on the CPU."""

    relation: Int64[Tensor, " T"]
    score: Float64[Tensor, " T"]
    is_true: Bool[Tensor, " T"]


@dataclass(frozen=True)
class Thresholds:
    """A triple is called true if its score is at least its relation's threshold."""

    of_relation: Float64[Tensor, " R"]
    common: float
    """The threshold of all relations together, which those have that could not choose their own."""
    is_own: Bool[Tensor, " R"]
    """Which relations chose their own: those with both true and false triples in valid."""

    @classmethod
    def of(cls, valid: Scored, num_relations: int) -> "Thresholds":
        """The thresholds of highest accuracy on valid triples, which must have true and false ones."""
        common = best_threshold(valid.score, valid.is_true)
        chosen = torch.full((num_relations,), common, dtype=torch.float64)
        true, false = (
            torch.bincount(valid.relation[each], minlength=num_relations) for each in (valid.is_true, ~valid.is_true)
        )
        is_own = (true > 0) & (false > 0)
        for relation in is_own.nonzero()[:, 0].tolist():
            of_it = valid.relation == relation
            chosen[relation] = best_threshold(valid.score[of_it], valid.is_true[of_it])
        return cls(chosen, common, is_own)

    def classify(self, scored: Scored) -> Bool[Tensor, " T"]:
        """Whether each triple is called true."""
        return scored.score >= self.of_relation[scored.relation]


def best_threshold(score: Float64[Tensor, " T"], is_true: Bool[Tensor, " T"]) -> float:
    """The threshold with most right answers, where a triple is called true if its score is at least the threshold.

    Between two scores it is their middle; below all scores it is the lowest one, above all the next number after the
    highest. Of several that are equally good it is the lowest.
    """
    score, order = score.sort()
    is_true = is_true[order]
    # Right answers if the k lowest are called false, for k from 0 to T.
    false_below = torch.cat([torch.zeros(1, dtype=torch.int64), (~is_true).cumsum(0)])
    true_above = is_true.sum() - torch.cat([torch.zeros(1, dtype=torch.int64), is_true.cumsum(0)])
    right = false_below + true_above
    right[1:-1][score[1:] == score[:-1]] = -1  # equal scores are not told apart
    k = int(right.argmax())
    if k == 0:
        return float(score[0])
    if k == len(score):
        return float(torch.nextafter(score[-1], torch.tensor(torch.inf, dtype=torch.float64)))
    middle = float((score[k - 1] + score[k]) / 2)
    return middle if middle > float(score[k - 1]) else float(score[k])  # neighbours among floating-point numbers


def classification_metrics(thresholds: Thresholds, scored: Scored) -> dict[str, float | int]:
    """Accuracy and F1 of true triples by the thresholds; `auc_roc` and `auc_pr` of the scores themselves.

    `auc_pr` is the average precision. The two areas need no threshold: they compare the scores of all relations with
    each other. Both kinds of triples must be there.
    """
    called, is_true = thresholds.classify(scored), scored.is_true
    both = int((called & is_true).sum())
    return {
        "accuracy": float((called == is_true).double().mean()),
        "f1": 2 * both / (int(called.sum()) + int(is_true.sum())),
        "auc_roc": _auc_roc(scored.score, is_true),
        "auc_pr": _average_precision(scored.score, is_true),
        "true": int(is_true.sum()),
        "false": int((~is_true).sum()),
        "with_common_threshold": int((~thresholds.is_own[scored.relation]).sum()),
    }


def _steps(
    score: Float64[Tensor, " T"], is_true: Bool[Tensor, " T"]
) -> tuple[Int64[Tensor, " S"], Int64[Tensor, " S"]]:
    """True and false triples with at least each distinct score, the highest score first."""
    score, order = score.sort(descending=True)
    true = is_true[order].cumsum(0)
    is_last = torch.cat([score[1:] != score[:-1], torch.ones(1, dtype=torch.bool)])
    return true[is_last], (torch.arange(1, len(score) + 1) - true)[is_last]


def _auc_roc(score: Float64[Tensor, " T"], is_true: Bool[Tensor, " T"]) -> float:
    """The probability that a true triple scores higher than a false one, equal scores counted half."""
    true, false = _steps(score, is_true)
    zero = torch.zeros(1, dtype=torch.int64)
    width, height = torch.cat([zero, false]).diff(), torch.cat([zero, true])
    area = (width * (height[1:] + height[:-1])).sum().double() / 2
    return float(area / (true[-1] * false[-1]))


def _average_precision(score: Float64[Tensor, " T"], is_true: Bool[Tensor, " T"]) -> float:
    """The mean precision, weighted by the rise of recall at each distinct score."""
    true, false = _steps(score, is_true)
    gained = torch.cat([torch.zeros(1, dtype=torch.int64), true]).diff()
    return float((gained * (true / (true + false).double())).sum() / true[-1])
