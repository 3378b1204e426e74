import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare, norm

from generator.eans import EANSSampler, log_offset_probability
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, model_of, no_opinion, set_entities, site_of

OPTIONS: dict[str, Any] = {
    "num_negatives": 4,
    "clusters": 10,
    "iterations": 5,
    "spread": 5.5,
    "refresh_steps": 0,
    "mask_known": True,
}
NUM = families().num_entities


def sampler_of(**options: Any) -> EANSSampler:
    site = site_of(families())
    return EANSSampler(context_of(families(), site, model_of(site)), **(OPTIONS | options))


def offset_probability(spread: float, places: int) -> list[float]:
    """Of the integer part of a Gaussian, offset by offset, wrapped."""
    probability = [0.0] * places
    for offset in range(-int(12 * spread) - 1, int(12 * spread) + 2):
        size = abs(offset)
        mass = norm.sf(size / spread) - norm.sf((size + 1) / spread)
        probability[offset % places] += 2 * mass if offset == 0 else mass
    return probability


def test_clusters_and_spread_follow_the_number_of_entities_as_in_the_paper():
    sampler = sampler_of(clusters=None, spread=None)
    assert (sampler.clusters, sampler.spread) == (math.isqrt(NUM), NUM // 50)


@pytest.mark.parametrize("spread", [0.4, 5.5, 300.0])
def test_the_distribution_of_offsets_is_a_wrapped_gaussian_cut_to_integers(spread: float):
    found = log_offset_probability(spread, NUM)
    assert found.exp().tolist() == pytest.approx(offset_probability(spread, NUM), abs=1e-12)


@pytest.mark.parametrize("spread", [5.5, 300.0])
def test_negatives_stand_a_gaussian_away_from_the_target(spread: float):
    sampler = sampler_of(num_negatives=20_000, spread=spread)
    batch = batch_of(families().train[:2], heads=1)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.proposal is not None
    for row, target in enumerate(batch.target.tolist()):
        offset = (sampler.place_of[negatives.entity[row]] - sampler.place_of[target]) % NUM
        expected = 20_000 * torch.tensor(offset_probability(spread, NUM))
        count = torch.bincount(offset, minlength=NUM)
        likely = expected > 5
        rest = [int(count[~likely].sum())], [float(expected[~likely].sum())]
        observed = [*count[likely].tolist(), *(rest[0] if rest[1][0] > 1 else [])]
        wanted = torch.tensor([*expected[likely].tolist(), *(rest[1] if rest[1][0] > 1 else [])])
        assert chisquare(observed, (wanted * sum(observed) / wanted.sum()).numpy()).pvalue > 1e-3
        assert torch.allclose(negatives.proposal.negative[row], (expected / 20_000).log()[offset])
        assert float(negatives.proposal.target[row]) == pytest.approx(float((expected[0] / 20_000).log()))


def test_each_entity_has_one_place_and_clusters_stand_together():
    sampler = sampler_of(clusters=4, num_negatives=200, spread=4.0, iterations=10)
    group = torch.arange(NUM) % 4
    corner = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [2.5, 0, 0, 0], [5, 0, 0, 0]], dtype=torch.float64)
    set_entities(sampler.player, corner[group])
    together = 0
    for seed in range(60):
        sampler.start_stage()
        sampler.propose(batch_of(families().train[:1], seed=seed), no_opinion)
        assert sampler.entity_at.sort().values.equal(torch.arange(NUM))
        blocks = group[sampler.entity_at].view(4, 32)
        if (blocks != blocks[:, :1]).any():
            continue  # the start put two centroids into one cluster
        together += 1
        # From whichever comes first, the path goes to the nearest that is left.
        order = blocks[:, 0].tolist()
        for turn in range(3):
            distance = {c: abs(float(corner[c, 0] - corner[order[turn], 0])) for c in order[turn + 1 :]}
            assert distance[order[turn + 1]] == min(distance.values())
    assert together > 3


def test_the_target_and_other_facts_are_flagged():
    batch = batch_of(families().train[:200], heads=100)
    negatives = sampler_of(num_negatives=20).propose(batch, no_opinion)
    assert negatives.known is not None
    itself = negatives.entity == batch.target[:, None]
    assert itself.any()
    assert negatives.known[itself].all()
    assert sampler_of(mask_known=False).propose(batch, no_opinion).known is None


def test_places_change_when_their_steps_are_over():
    sampler = sampler_of(refresh_steps=3)
    places = []
    for step in range(7):
        sampler.propose(replace(batch_of(families().train[:4]), step=step), no_opinion)
        places.append(sampler.entity_at)
        sampler.player.entity.weight.mul_(-1.5).add_(torch.arange(4) * 0.1)
        sampler.player.entity.weight.copy_(sampler.player.entity.weight.flip(0))
    same = [places[step].equal(places[step + 1]) for step in range(6)]
    assert same == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, r"generator.num_negatives must be at least 1, got 0"),
        ({"clusters": 0}, r"generator.clusters must be at least 1, got 0"),
        ({"clusters": 129}, r"generator.clusters must not exceed the graph's 128 entities, got 129"),
        ({"iterations": 0}, r"generator.iterations must be at least 1, got 0"),
        ({"spread": 0.0}, r"generator.spread must be positive, got 0.0"),
        ({"refresh_steps": -1}, r"generator.refresh_steps must be at least 0, got -1"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)
