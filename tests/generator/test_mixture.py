from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, chisquare

from generator.bernoulli import BernoulliSampler
from generator.degree import DegreeSampler
from generator.mixture import MixtureSampler
from generator.nscaching import NSCachingSampler
from generator.sampler import NegativeSampler, Reward
from generator.typed import TypedSampler
from generator.uniform import UniformSampler
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, kbgan_of, model_of, no_opinion, site_of

NUM = families().num_entities
COUNT: dict[str, Any] = {"mask_known": False, "redraw_known": False}
uniform = partial(UniformSampler, **COUNT)
degree = partial(DegreeSampler, power=1.0, **COUNT)
typed = partial(TypedSampler, uniform_share=0.0, **COUNT)


def mixture_of(**parts: Callable[..., NegativeSampler]) -> MixtureSampler:
    site = site_of(families())
    return MixtureSampler(context_of(families(), site, model_of(site)), parts=parts)


def test_draws_from_the_mixture_and_knows_it():
    sampler = mixture_of(
        even=partial(uniform, num_negatives=12_000),
        often=partial(degree, num_negatives=6_000),
        fitting=partial(typed, num_negatives=6_000),
    )
    batch = batch_of(families().train[:2], heads=1)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.entity.shape == (2, 24_000)
    share = torch.bincount(families().train[:, [0, 2]].flatten(), minlength=NUM).double()
    for row in range(2):
        relation, place = int(batch.relation[row]), (0, 2)[row]
        seen = families().train[families().train[:, 1] == relation][:, place].unique()
        probability = 0.5 / NUM + 0.25 * share / share.sum()
        probability[seen] += 0.25 / len(seen)
        count = torch.bincount(negatives.entity[row], minlength=NUM)
        assert chisquare(count.numpy(), 24_000 * probability.numpy()).pvalue > 1e-3
        assert negatives.proposal is not None
        assert torch.allclose(negatives.proposal.negative[row].exp(), probability[negatives.entity[row]])
        assert float(negatives.proposal.target[row].exp()) == pytest.approx(float(probability[batch.target[row]]))


def test_parts_of_one_kind_draw_independently():
    sampler = mixture_of(one=partial(uniform, num_negatives=200), other=partial(uniform, num_negatives=200))
    entity = sampler.propose(batch_of(families().train[:50]), no_opinion).entity
    equal = int((entity[:, :200] == entity[:, 200:]).sum())
    assert binomtest(equal, 10_000, 1 / NUM).pvalue > 1e-3


def test_a_part_without_a_proposal_leaves_the_mixture_without():
    cached = partial(
        NSCachingSampler,
        num_negatives=1,
        cache_size=5,
        fresh_size=5,
        temperature=1.0,
        select="top",
        refresh_epochs=1,
        max_caches=None,
        mask_known=False,
    )
    sampler = mixture_of(even=partial(uniform, num_negatives=3), hard=cached)
    batch = batch_of(families().train[:8])
    model = sampler.context.player
    assert model is not None
    negatives = sampler.propose(batch, torch.no_grad()(partial(model.score_candidates, batch)))
    assert negatives.entity.shape == (8, 4)
    assert negatives.proposal is None


def test_facts_are_masked_in_every_part_if_one_masks():
    masked = partial(UniformSampler, mask_known=True, redraw_known=False, num_negatives=40)
    sampler = mixture_of(even=masked, often=partial(degree, num_negatives=40))
    batch = batch_of(families().train[:50], heads=20)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.known is not None
    assert negatives.known.equal(sampler.context.known.contains(batch, negatives.entity))
    assert negatives.known[:, 40:].any()


def test_chunks_share_what_all_parts_share():
    batch = batch_of(families().train[:12], chunk_size=4)
    shared = mixture_of(even=partial(uniform, num_negatives=3), often=partial(degree, num_negatives=2))
    assert shared.propose(batch, no_opinion).entity.shape == (3, 5)
    own = mixture_of(even=partial(uniform, num_negatives=3), fitting=partial(typed, num_negatives=2))
    entity = own.propose(batch, no_opinion).entity
    assert entity.shape == (12, 5)
    assert entity[0, :3].equal(entity[3, :3])
    assert not entity[0, :3].equal(entity[4, :3])


def test_the_side_is_the_mean_of_the_parts():
    bernoulli = partial(BernoulliSampler, num_negatives=1, **COUNT)
    sampler = mixture_of(even=partial(uniform, num_negatives=1), less=bernoulli)
    other = sampler.context.statistics.head_probability
    assert torch.allclose(sampler.head_probability, (other + 0.5) / 2)
    assert not torch.allclose(other, torch.full_like(other, 0.5))


def test_each_part_learns_from_what_it_drew():
    seen = []

    class Learner(UniformSampler):
        def feedback(self, batch, negatives, reward):
            seen.append((negatives.entity, reward.value, reward.mean))

    learner = partial(Learner, num_negatives=3, **COUNT)
    sampler = mixture_of(a=partial(uniform, num_negatives=2), b=learner, c=learner)
    assert sampler.learns
    batch = batch_of(families().train[:4])
    negatives = sampler.propose(batch, no_opinion)
    value = negatives.entity.double()  # a reward that tells the entity
    sampler.feedback(batch, negatives, Reward(value, 0.25))
    assert [mean for *_, mean in seen] == [0.25, 0.25]
    for entity, rewarded, _ in seen:
        assert rewarded.equal(entity.double())
    assert seen[0][0].equal(negatives.entity[:, 2:5])
    assert seen[1][0].equal(negatives.entity[:, 5:])


def test_the_model_of_a_part_is_the_mixtures():
    sampler = mixture_of(even=partial(uniform, num_negatives=2), learned=kbgan_of)
    learned = sampler.parts["learned"]
    assert sampler.model is learned.model
    sampler.start_stage()  # which makes a new optimiser
    assert sampler.optimizer is learned.optimizer
    assert set(sampler.state()) == {f"learned.{key}" for key in learned.state()}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"generator.parts must name at least 1 sampler, got none"),
        ({"a": kbgan_of, "b": kbgan_of}, r"generator.parts: at most one sampler may have a model, .* a, b"),
        ({"a": partial(uniform, num_negatives=0)}, r"generator.parts.a.num_negatives must be at least 1, got 0"),
    ],
)
def test_wrong_parts_are_errors(parts: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        mixture_of(**parts)


def test_rewards_of_a_pool_are_an_error():
    sampler = mixture_of(learned=partial(kbgan_of, estimator="exact"))
    with pytest.raises(InputError, match=r"set generator.parts.learned.estimator=reinforce"):
        sampler.propose(batch_of(families().train[:4]), no_opinion)
