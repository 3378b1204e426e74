"""Probabilities agree with how often triples are facts, also on triples that were not used to fit."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from answers.calibration import Calibration, calibrate, require_scikit_learn
from answers.completions import Completions
from graph.errors import InputError
from graph.known import KnownTriples
from graph.slots import Slots
from tests.worlds import context_of, families, graph_of, model_of, one_rank, site_of

pytest.importorskip("sklearn")


class Scored(Completions):
    """Its scores are 12 for facts and 6 for others, with noise."""

    seen: Tensor

    def plain_scores(self, head: Tensor, relation: Tensor, tail: Tensor, *, as_heads: bool = False) -> Tensor:
        self.seen = torch.stack([head, relation, tail], dim=1)
        noise = torch.randn(len(head), generator=torch.Generator().manual_seed(int(as_heads)), dtype=torch.float64)
        return 3 * (noise + torch.where(self.are_known(head, relation, tail), 4.0, 2.0))


def scored() -> Scored:
    graph = families()
    model = model_of(site_of(graph))
    known = KnownTriples.of(torch.cat([graph.train, graph.valid, graph.test]), graph.num_entities, graph.num_relations)
    return Scored(model, known, Slots.of(context_of(graph).statistics), one_rank())


def calibrated(method: str, *, negatives: int = 5, seed: int = 0) -> Calibration:
    return calibrate(scored(), families().train.long(), method=method, negatives=negatives, seed=seed)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_predicted_probabilities_are_observed(method: str):
    found = calibrated(method)
    reliability = found.reliability
    assert reliability.brier < 0.7 * reliability.brier_of_prevalence < reliability.brier_of_sigmoid
    many = reliability.count > 200
    assert many.sum() >= 4
    assert torch.allclose(reliability.predicted[many], reliability.observed[many], atol=0.1)
    assert found.prevalence == pytest.approx(1 / 6, abs=0.01)  # a few corrupted triples are facts
    assert found.positives == len(families().train)
    total = 2 * found.positives * 3  # two sides, each with 5 negatives, of half of the triples
    assert int(reliability.count.sum()) == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_higher_score_is_never_less_probable(method: str):
    probability = calibrated(method).probability(torch.linspace(-30, 30, 500, dtype=torch.float64))
    assert (probability.diff() >= 0).all()
    assert 0 <= float(probability[0]) < 0.01
    assert 0.9 < float(probability[-1]) <= 1


def test_is_a_function_of_the_seed():
    one, again, other = (calibrated("platt", seed=seed) for seed in (0, 0, 1))
    assert (one.scale, one.shift) == (again.scale, again.shift) != (other.scale, other.shift)


def test_more_negatives_mean_a_lower_probability():
    score = torch.tensor([9.0], dtype=torch.float64)
    few, many = (float(calibrated("platt", negatives=count).probability(score)) for count in (1, 20))
    assert few > 2 * many


def test_no_known_fact_is_a_negative():
    graph = graph_of([(head, 0, tail) for head in range(6) for tail in range(5)], num_entities=6, num_relations=1)
    graph = replace(graph, valid=graph.train.long(), test=torch.tensor([[0, 0, 5]]))
    known = KnownTriples.of(torch.cat([graph.train, graph.test]), 6, 1)
    completions = Scored(model_of(site_of(graph)), known, Slots.of(context_of(graph).statistics), one_rank())
    calibrate(completions, graph.valid, method="platt", negatives=50, seed=0)
    negatives = completions.seen[len(graph.valid) :]
    assert negatives.unique(dim=0).tolist() == [[head, 0, 5] for head in range(1, 6)]


def test_too_few_triples_are_an_error():
    with pytest.raises(InputError, match="probability=platt needs facts and corrupted triples in both halves of valid"):
        calibrate(scored(), families().valid[:1], method="platt", negatives=5, seed=0)


def test_without_scikit_learn_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ImportError(name)

    require_scikit_learn("platt")
    monkeypatch.setattr("answers.calibration.importlib.import_module", missing)
    with pytest.raises(InputError, match="probability=platt needs scikit-learn: pip install"):
        require_scikit_learn("platt")
