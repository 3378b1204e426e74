from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import generator.near_miss
from generator.near_miss import NearMissSampler
from graph.batch import Batch
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, model_of, no_opinion, site_of

OPTIONS: dict[str, Any] = {
    "num_negatives": 4,
    "list_size": 6,
    "window": "above",
    "uniform_share": 0.0,
    "refresh_epochs": 0,
    "mask_known": True,
}
NUM = families().num_entities


def sampler_of(**options: Any) -> NearMissSampler:
    site = site_of(families())
    return NearMissSampler(context_of(families(), site, model_of(site)), **(OPTIONS | options))


def scores(sampler: NearMissSampler, batch: Batch) -> Tensor:
    return sampler.player.score_candidates(batch, torch.arange(NUM)[None]).detach()


def window(score: list[float], target: int, left_out: set[int], kind: str) -> set[int]:
    """The six entities that a window should have, the slow way."""
    others = [entity for entity in range(NUM) if entity not in left_out | {target}]
    if kind == "around":
        return set(sorted(others, key=lambda e: abs(score[e] - score[target]))[:6])
    above = sorted((e for e in others if score[e] >= score[target]), key=lambda e: score[e])
    below = sorted((e for e in others if score[e] < score[target]), key=lambda e: -score[e])
    return set((above + below)[:6])


@pytest.mark.parametrize("kind", ["above", "around"])
@pytest.mark.parametrize("mask_known", [True, False])
def test_windows_are_next_to_the_positive(kind: str, mask_known: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generator.near_miss, "_FACTS_AT_ONCE", 500)
    sampler = sampler_of(window=kind, mask_known=mask_known, num_negatives=200)
    batch = batch_of(families().train[::30], heads=20)
    entity = sampler.propose(batch, no_opinion).entity
    known = sampler.context.known.contains(batch, torch.arange(NUM)[None])
    for row, score in enumerate(scores(sampler, batch).tolist()):
        left_out = set(known[row].nonzero()[:, 0].tolist()) if mask_known else set[int]()
        assert set(entity[row].tolist()) == window(score, int(batch.target[row]), left_out, kind)


def test_draws_are_uniform_over_the_window_mixed_with_all():
    sampler = sampler_of(num_negatives=20_000, uniform_share=0.3)
    batch = batch_of(families().train[:2], heads=1)
    negatives = sampler.propose(batch, no_opinion)
    for row in range(2):
        probability = torch.full((NUM,), 0.3 / NUM, dtype=torch.float64)
        probability[sampler.lists(batch)[row]] += 0.7 / 6
        count = torch.bincount(negatives.entity[row], minlength=NUM)
        assert chisquare(count.numpy(), 20_000 * probability.numpy()).pvalue > 1e-3
        assert negatives.proposal is not None
        assert torch.allclose(negatives.proposal.negative[row], probability.log()[negatives.entity[row]])


def test_train_facts_are_not_drawn():
    sampler = sampler_of(num_negatives=50)
    batch = batch_of(families().train, heads=800)
    known = sampler.propose(batch, no_opinion).known
    assert known is not None
    assert not known.any()


def test_windows_that_had_to_be_filled_with_facts_are_flagged():
    sampler = sampler_of(list_size=127, num_negatives=500)
    batch = batch_of(families().train[:20], heads=10)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.known is not None
    assert negatives.known.any()
    assert negatives.known.equal(sampler.context.known.contains(batch, negatives.entity))


def test_an_unknown_window_is_an_error():
    with pytest.raises(InputError, match=r"generator.window must be one of above, around, got 'below'"):
        sampler_of(window="below")
