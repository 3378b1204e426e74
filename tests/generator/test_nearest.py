from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from generator.nearest import NearestSampler
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, model_of, no_opinion, site_of

OPTIONS: dict[str, Any] = {
    "num_negatives": 4,
    "list_size": 6,
    "metric": "l2",
    "uniform_share": 0.5,
    "refresh_epochs": 0,
    "mask_known": False,
}
NUM = families().num_entities


def sampler_of(**options: Any) -> NearestSampler:
    site = site_of(families())
    return NearestSampler(context_of(families(), site, model_of(site)), **(OPTIONS | options))


def closest(sampler: NearestSampler) -> torch.Tensor:
    """The six nearest of each entity, by all distances."""
    row = sampler.player.entity.gather_all(sampler.player.entity.weight)
    return torch.cdist(row, row).fill_diagonal_(torch.inf).topk(6, largest=False).indices


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_draws_are_uniform_over_the_neighbours_mixed_with_all(share: float):
    sampler = sampler_of(num_negatives=20_000, uniform_share=share)
    batch = batch_of(families().train[:2], heads=1)
    negatives = sampler.propose(batch, no_opinion)
    for row, target in enumerate(batch.target.tolist()):
        probability = torch.full((NUM,), share / NUM, dtype=torch.float64)
        probability[closest(sampler)[target]] += (1 - share) / 6
        count = torch.bincount(negatives.entity[row], minlength=NUM)
        possible = probability > 0
        assert not count[~possible].any()
        assert chisquare(count[possible].numpy(), 20_000 * probability[possible].numpy()).pvalue > 1e-3
        if share == 0:
            assert negatives.proposal is None
            continue
        assert negatives.proposal is not None
        assert torch.allclose(negatives.proposal.negative[row], probability.log()[negatives.entity[row]])
        assert float(negatives.proposal.target[row]) == pytest.approx(float(probability[target].log()))


def test_lists_stay_as_they_were_made_until_they_are_due():
    sampler = sampler_of(refresh_epochs=2, uniform_share=0.0, num_negatives=100)

    def drawn(epoch: int) -> set[int]:
        return set(sampler.propose(batch_of(families().train[:1], epoch=epoch), no_opinion).entity[0].tolist())

    target = int(families().train[0, 2])
    first = closest(sampler)[target].tolist()
    assert drawn(0) == set(first)
    sampler.player.entity.weight.copy_(sampler.player.entity.weight.flip(0))
    second = closest(sampler)[target].tolist()
    assert set(first) != set(second)
    assert drawn(1) == set(first)
    assert drawn(2) == set(second)


def test_a_stage_makes_lists_of_the_model_that_it_starts_with():
    sampler = sampler_of(uniform_share=0.0, num_negatives=100)
    batch = batch_of(families().train[:1])
    sampler.propose(batch, no_opinion)
    sampler.player.entity.weight.copy_(sampler.player.entity.weight.flip(0))
    sampler.start_stage()
    drawn = sampler.propose(batch, no_opinion).entity[0]
    assert set(drawn.tolist()) == set(closest(sampler)[batch.target[0]].tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, r"generator.num_negatives must be at least 1, got 0"),
        ({"list_size": 0}, r"generator.list_size must be at least 1, got 0"),
        ({"list_size": 128}, r"generator.list_size must be below the graph's 128 entities, got 128"),
        ({"uniform_share": 1.5}, r"generator.uniform_share must be from 0 to 1, got 1.5"),
        ({"refresh_epochs": -1}, r"generator.refresh_epochs must be at least 0, got -1"),
        ({"metric": "cosine"}, r"generator.metric must be one of l2, dot, got 'cosine'"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)
