"""Triple classification against plain loops and scikit-learn."""

from itertools import pairwise

import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from torch import Tensor

from trainer.classification import Scored, Thresholds, best_threshold, classification_metrics


def scored(seed: int, count: int = 300, relations: int = 4, values: int = 40) -> Scored:
    """Scores of true triples are higher on average; many scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    is_true = torch.rand(count, generator=generator) < 0.4
    relation = torch.randint(relations, (count,), generator=generator)
    noise = torch.randint(values, (count,), generator=generator)
    return Scored(relation, (noise + 8 * is_true + 5 * relation).double() / 7, is_true)


def right(score: Tensor, is_true: Tensor, threshold: float) -> int:
    return sum((s >= threshold) == t for s, t in zip(score.tolist(), is_true.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [3, 1000])
def test_no_threshold_gives_more_right_answers(seed: int, values: int):
    case = scored(seed, count=40, values=values)
    found = best_threshold(case.score, case.is_true)
    scores = sorted(set(case.score.tolist()))
    tried = [scores[0] - 1, *scores, *((a + b) / 2 for a, b in pairwise(scores)), scores[-1] + 1]
    assert right(case.score, case.is_true, found) == max(right(case.score, case.is_true, each) for each in tried)


@pytest.mark.parametrize(
    ("score", "is_true", "expected"),
    [
        ([1.0, 2.0, 4.0], [False, False, True], 3.0),  # the middle
        ([1.0, 2.0], [True, True], 1.0),  # all are true
        ([2.0, 1.0], [True, False], 1.5),
        ([1.0, 1.0, 1.0], [True, False, True], 1.0),  # nothing to tell apart
    ],
)
def test_where_a_threshold_lies(score: list[float], is_true: list[bool], expected: float):
    assert best_threshold(torch.tensor(score).double(), torch.tensor(is_true)) == expected


def test_a_threshold_above_all_calls_nothing_true():
    score, is_true = torch.tensor([3.0, 1.0]).double(), torch.tensor([False, False])
    assert not (score >= best_threshold(score, is_true)).any()
    near = torch.tensor([1.0, torch.nextafter(torch.tensor(1.0).double(), torch.tensor(2.0).double())]).double()
    assert (near >= best_threshold(near, torch.tensor([False, True]))).tolist() == [False, True]


def test_relations_without_both_kinds_take_the_common_threshold():
    valid = scored(1)
    kept = ~((valid.relation == 2) & valid.is_true) & (valid.relation != 3)  # 2 has no true ones, 3 has none at all
    valid = Scored(valid.relation[kept], valid.score[kept], valid.is_true[kept])
    thresholds = Thresholds.of(valid, 4)
    assert thresholds.is_own.tolist() == [True, True, False, False]
    for relation in range(4):
        own = valid.relation == relation if relation < 2 else torch.ones_like(valid.is_true)
        assert float(thresholds.of_relation[relation]) == best_threshold(valid.score[own], valid.is_true[own])
    test = scored(7)
    metrics = classification_metrics(thresholds, test)
    assert metrics["with_common_threshold"] == int((test.relation >= 2).sum())


@pytest.mark.parametrize("values", [3, 100000])
def test_metrics_equal_those_of_scikit_learn(values: int):
    thresholds = Thresholds.of(scored(0, values=values), 4)
    test = scored(1, values=values)
    found = classification_metrics(thresholds, test)
    called = [
        s >= float(thresholds.of_relation[r]) for r, s in zip(test.relation.tolist(), test.score.tolist(), strict=True)
    ]
    is_true, score = test.is_true.numpy(), test.score.numpy()
    assert found["accuracy"] == pytest.approx(accuracy_score(is_true, called))
    assert found["f1"] == pytest.approx(f1_score(is_true, called))
    assert found["auc_roc"] == pytest.approx(roc_auc_score(is_true, score))
    assert found["auc_pr"] == pytest.approx(average_precision_score(is_true, score))
    assert (found["true"], found["false"]) == (is_true.sum(), (~is_true).sum())
    pairs = [(a > b) + (a == b) / 2 for a in score[is_true] for b in score[~is_true]]
    assert found["auc_roc"] == pytest.approx(sum(pairs) / len(pairs))
