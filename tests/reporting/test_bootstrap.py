"""Confidence intervals of a paired bootstrap."""

from typing import Any

import pytest
import torch

from reporting.bootstrap import METRICS, intervals, resampled_means, values_of
from reporting.comparison import compare
from trainer.evaluate import TripleRanks


def ranks_of(head: list[int], tail: list[int]) -> TripleRanks:
    return TripleRanks(*(torch.tensor([side, side]) for side in (head, tail)))


def test_a_triple_counts_with_both_sides():
    found = values_of(TripleRanks(torch.tensor([[1, 4], [1, 6]]), torch.tensor([[2, 20], [2, 20]])))
    assert dict(zip(METRICS, found.T.tolist(), strict=True)) == {
        "mrr": pytest.approx([0.75, 0.125]),
        "hits@1": [0.5, 0.0],
        "hits@3": [1.0, 0.0],
        "hits@10": [1.0, 0.5],
        "mean_rank": [1.5, 12.5],
    }


def bounds(values: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return intervals(values.mean(1), resampled_means(values, resamples=2000, seed=seed))


def test_an_interval_is_as_wide_as_statistics_say():
    values = torch.rand((1, 400, 1), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = bounds(values)
    error = float(values.std() / 400**0.5)
    assert float(low) == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.15 * error)
    assert float(high) == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.15 * error)


def test_models_are_compared_on_the_same_triples():
    draws = torch.Generator().manual_seed(2)
    hard = torch.rand((1, 300, 1), generator=draws, dtype=torch.float64)
    # The second model is better by .01 on each triple: no choice of triples changes the difference.
    means = resampled_means(torch.cat([hard, hard + 0.01]), resamples=200, seed=0)
    assert (means[:, 1] - means[:, 0]).flatten().tolist() == pytest.approx([0.01] * 200)
    assert float(means[:, 0].std()) > 0.01


def test_draws_are_a_function_of_the_seed(monkeypatch):
    values = torch.arange(30, dtype=torch.float64).view(1, 30, 1)
    first = resampled_means(values, resamples=50, seed=3)
    assert not torch.equal(first, resampled_means(values, resamples=50, seed=4))
    monkeypatch.setattr("reporting.bootstrap._MOST_DRAWS", 30 * 7)  # in blocks of 7
    assert torch.equal(first, resampled_means(values, resamples=50, seed=3))


def test_options_that_differ_are_named_as_they_are_typed():
    def config(model: str, norm: int) -> dict[str, Any]:
        scoring = {"_target_": f"embedding.scoring.{model}.Class", "norm": norm}
        return {
            "discriminator": {"_target_": "embedding.model.KGEModel", "_partial_": True, "scoring": scoring},
            "terms": {"n3": {"_target_": f"discriminator.term.{model}.Term", "weight": 1}},
            "seed": 0,
        }

    ranks = {"a": ranks_of([1, 2], [1, 2]), "b": ranks_of([1, 3], [1, 2])}
    configs = [config("complex", 1), config("rotate", 2)]
    found = compare(ranks, configs, graph="umls", split="test", resamples=100, seed=0)
    assert found.options == {"discriminator": ["complex", "rotate"], "discriminator.scoring.norm": ["1", "2"]}
