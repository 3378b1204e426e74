from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import DenseAdam
from generator.baseline import Baseline, LeaveOneOut, PerQuery, PreviousEpoch, RunningMean
from generator.kbgan import KBGANSampler, normalised
from generator.sampler import Reward
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.errors import InputError
from tests.worlds import MODEL_OPTIONS, batch_of, context_of, distmult, graph_of, kbgan_of, no_opinion

EVERYTHING = 2  # relation under which entity 0 has every entity as a tail
GRAPH = graph_of(
    [(0, 0, 1), (2, 1, 3), (4, 0, 6), (5, 1, 0), (1, 0, 2), (1, 0, 4), (1, 0, 6)]
    + [(0, EVERYTHING, tail) for tail in range(7)],
    num_entities=7,
    num_relations=3,
)
REWARD = torch.tensor([0.5, -1.0, 2.0, 0.1, -0.3, 1.2, -2.0], dtype=torch.float64)


class Recorder:
    """Stands for an optimiser: keeps the gradient and changes nothing."""

    def __init__(self, model: KGEModel) -> None:
        self.model = model

    def step(self) -> None:
        rows = self.model.entity.take_gradient()
        entity = torch.zeros(7, self.model.entity.width, dtype=torch.float64)
        entity[self.model.entity.entity[rows.row]] = rows.value
        relation = self.model.scorer.relation
        assert relation.grad is not None
        self.gradient = torch.cat([entity.flatten(), relation.grad.flatten()])
        relation.grad = None


def fast_adam(model: KGEModel) -> ModelOptimizer:
    return DenseAdam(
        model, lr=0.1, relation_lr=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=None
    )


def sampler_of(**options: Any) -> KBGANSampler:
    return kbgan_of(context_of(GRAPH), **({"dim": 3} | options))


def probabilities(sampler: KBGANSampler, batch: Batch, pool: Tensor) -> Tensor:
    """The softmax over each positive's pool, one score at a time."""
    model = sampler.model
    row = {int(entity): model.entity.weight.detach()[place] for place, entity in enumerate(model.entity.entity)}
    logits = torch.empty(len(batch.head), pool.shape[1], dtype=torch.float64)
    for i, candidates in enumerate(per_positive(pool, len(batch.head)).tolist()):
        head, relation, tail = int(batch.head[i]), model.scorer.relation.detach()[batch.relation[i]], int(batch.tail[i])
        for j, entity in enumerate(candidates):
            ends = (entity, tail) if i < batch.head_rows else (head, entity)
            logits[i, j] = model.scoring.score(row[ends[0]], relation, row[ends[1]]) / sampler.temperature
    return logits.softmax(1)


def rewarded(batch: Batch, negatives: Negatives) -> Reward:
    entity = negatives.pool if negatives.reward_pool else negatives.entity
    assert entity is not None
    value = REWARD[per_positive(entity, len(batch.head))]
    mean, square = (float(batch.share_of_mean(each.mean(1))) for each in (value, value.square()))
    return Reward(value, mean, {"square of the reward": square})


@pytest.mark.parametrize(("chunk_size", "heads"), [(1, 2), (2, 1)])
def test_draws_follow_the_softmax_over_the_pool(chunk_size: int, heads: int):
    sampler = sampler_of(pool_size=7, num_negatives=6000, temperature=0.5)
    batch = batch_of(GRAPH.train[:4], heads=heads, chunk_size=chunk_size)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.pool is not None
    assert negatives.log_prob is not None
    assert negatives.pool.shape == (4 // chunk_size, 7)
    expected = probabilities(sampler, batch, negatives.pool)
    repeated = 0
    for row, pool in enumerate(per_positive(negatives.pool, 4)):
        share = torch.zeros(7, dtype=torch.float64).index_add_(0, pool, expected[row])
        repeated += len(pool) - len(pool.unique())
        drawn = torch.bincount(negatives.entity[row], minlength=7)
        assert (drawn[share == 0] == 0).all()
        assert chisquare(drawn[share > 0].numpy(), 6000 * share[share > 0].numpy()).pvalue > 1e-3
        for entity, log_prob in zip(negatives.entity[row, :50], negatives.log_prob[row, :50], strict=True):
            assert (log_prob - expected[row, pool == entity].log()).abs().min() < 1e-9
    assert repeated > 0  # else duplicates are not tested


def test_candidates_are_uniform():
    batch = batch_of(GRAPH.train[:4].repeat(500, 1))
    pool = sampler_of(pool_size=5).propose(batch, no_opinion).pool
    assert pool is not None
    assert chisquare(torch.bincount(pool.flatten(), minlength=7).numpy()).pvalue > 1e-3


def test_distinct_draws_are_distinct_places_and_masked_only_where_enough_are_left():
    sampler = sampler_of(mask_known=True, pool_size=5, num_negatives=3, replacement=False)
    batch = batch_of(torch.tensor([(1, 0, 2)] * 300))
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.pool is not None
    assert negatives.pick is not None
    assert negatives.known is not None
    assert all(len(set(row)) == 3 for row in negatives.pick.tolist())
    left = (~sampler.context.known.contains(batch, negatives.pool)).sum(1)
    assert set(left.tolist()) >= {2, 3}
    assert not negatives.known[left >= 3].any()
    assert negatives.known[left < 3].any()


@pytest.mark.parametrize("estimator", ["reinforce", "exact"])
def test_masking_never_draws_a_known_fact_but_where_there_is_nothing_else(estimator: str):
    sampler = sampler_of(mask_known=True, pool_size=3, num_negatives=40, estimator=estimator)
    batch = batch_of(torch.tensor([(1, 0, 2)] * 300 + [(0, EVERYTHING, 1)] * 5))
    negatives = sampler.propose(batch, no_opinion)
    facts = set(map(tuple, GRAPH.train.tolist()))
    assert negatives.known is not None
    assert negatives.pool is not None
    hopeless = 0
    for row, triple in enumerate(zip(batch.head.tolist(), batch.relation.tolist(), strict=True)):
        known = [(*triple, entity) in facts for entity in negatives.pool[row].tolist()]
        hopeless += all(known)
        drawn = torch.tensor([(*triple, entity) in facts for entity in negatives.entity[row].tolist()])
        assert drawn.all() if all(known) else not drawn.any()
        assert negatives.known[row].equal(drawn)
    assert hopeless > 5  # also a pool of three known facts among seven entities
    sampler.feedback(batch, negatives, rewarded(batch, negatives))
    assert sampler.metrics()["generator/entropy"].isfinite().all()
    assert sampler.model.entity.weight.isfinite().all()


def gradients(
    baseline: Baseline, draws: int, positives: int, groups: int, *, replacement: bool = True
) -> tuple[Tensor, Tensor]:
    """REINFORCE's gradients for groups of independent draws from the same pools, and the exact gradient."""
    triples = torch.tensor([(0, 0, 1), (2, 1, 3)]).repeat_interleave(positives, 0)
    # Two chunks, whose positives are all the same: one corrupts the head, one the tail.
    batch = batch_of(triples, heads=1, chunk_size=positives, epoch=1)
    before = batch_of(triples, heads=1, chunk_size=positives, epoch=0)
    exact = sampler_of(estimator="exact", optimizer=Recorder)
    negatives = exact.propose(batch, no_opinion)
    exact.feedback(batch, negatives, rewarded(batch, negatives))
    drawn = sampler_of(optimizer=Recorder, baseline=baseline, num_negatives=draws, replacement=replacement)
    negatives = drawn.propose(before, no_opinion)
    drawn.feedback(before, negatives, rewarded(before, negatives))  # the baseline has seen something
    found = []
    group = torch.arange(positives).remainder(groups).repeat(2)
    for number in range(groups):
        negatives = drawn.propose(batch, no_opinion)
        reward = rewarded(batch, negatives)
        # Weights pick a group's draws: the pools stay as they are.
        batch.weight.copy_(group == number)
        part = replace(batch, global_weight=float(batch.weight.sum()))
        drawn.feedback(part, negatives, reward)
        found.append(drawn.optimizer.gradient)
    return torch.stack(found), exact.optimizer.gradient


@pytest.mark.parametrize(
    ("make", "draws"),
    [
        (PreviousEpoch, 1),
        (PreviousEpoch, 3),
        (partial(RunningMean, 0.9), 1),
        (partial(PerQuery, 0.9), 1),
        (LeaveOneOut, 2),
        (LeaveOneOut, 4),
    ],
)
def test_mean_gradient_of_reinforce_is_the_exact_one(make: Any, draws: int):
    found, exact = gradients(make(), draws, positives=2500, groups=25)
    mean, error = found.mean(0), found.std(0) / len(found) ** 0.5
    assert ((mean - exact).abs() <= 4 * error + 1e-12).all()
    assert (mean - exact).norm() < 0.09 * exact.norm()


@pytest.mark.parametrize("draws", [2, 3])
def test_mean_gradient_without_replacement_is_the_exact_one(draws: int):
    found, exact = gradients(PreviousEpoch(), draws, positives=2500, groups=25, replacement=False)
    mean, error = found.mean(0), found.std(0) / len(found) ** 0.5
    assert ((mean - exact).abs() <= 4 * error + 1e-12).all()
    assert (mean - exact).norm() < 0.09 * exact.norm()


def test_every_place_drawn_gives_the_exact_gradient():
    found, exact = gradients(PreviousEpoch(), 6, positives=10, groups=1, replacement=False)
    assert torch.allclose(found[0], exact)


def test_distinct_draws_vary_less_than_independent_ones():
    several, distinct = (
        float(gradients(LeaveOneOut(), 4, positives=200, groups=20, replacement=each)[0].var(0).sum())
        for each in (True, False)
    )
    assert distinct < 0.8 * several


def test_baselines_lower_the_variance():
    class Nothing(Baseline):
        def advantage(self, reward: Reward, batch: Batch) -> Tensor:
            return reward.value + 5  # an offset that a baseline should not mind

    class Shifted(PreviousEpoch):
        def advantage(self, reward: Reward, batch: Batch) -> Tensor:
            return super().advantage(Reward(reward.value + 5, reward.mean + 5), batch)

    without, with_mean, with_others = (
        float(gradients(baseline, 2, positives=200, groups=20)[0].var(0).sum())
        for baseline in (Nothing(), Shifted(), LeaveOneOut())
    )
    assert with_mean < 0.5 * without
    assert with_others < 0.5 * without


@pytest.mark.parametrize(
    ("mask_known", "options"),
    [
        (False, {}),
        (True, {}),
        (False, {"entropy_weight": 3.0}),
        (True, {"entropy_weight": 3.0}),
        (False, {"entropy_weight": 3.0, "entropy_floor": 1.5}),
        (False, {"normalise_reward": True, "entropy_weight": 0.5}),
    ],
)
def test_exact_gradient_is_that_of_the_expected_reward_and_the_entropy(mask_known: bool, options: dict[str, Any]):
    sampler = sampler_of(
        estimator="exact", optimizer=Recorder, temperature=0.7, mask_known=mask_known, pool_size=5, **options
    )
    batch = batch_of(GRAPH.train[:6], heads=3)
    negatives = sampler.propose(batch, no_opinion)
    sampler.feedback(batch, negatives, rewarded(batch, negatives))
    assert negatives.pool is not None
    pool, known = negatives.pool, sampler.context.known.contains(batch, negatives.pool)
    allowed = ~known | known.all(1, keepdim=True) if mask_known else torch.ones_like(known)
    if mask_known:
        assert (~allowed).any()

    given = rewarded(batch, negatives)
    earned = normalised(given).value if sampler.normalise_reward else given.value
    kinds = set()

    def expected_reward() -> float:
        probability = probabilities(sampler, batch, pool) * allowed
        probability /= probability.sum(1, keepdim=True)
        entropy = -torch.special.xlogy(probability, probability).sum(1)
        kinds.update((entropy < sampler.entropy_floor).tolist())
        worth = sampler.entropy_weight * entropy.clamp(max=sampler.entropy_floor)
        return float(((probability * earned).sum(1) + worth).mean())

    model, step = sampler.model, 1e-5
    differences = torch.zeros_like(sampler.optimizer.gradient)
    places = list(product(range(7), range(3)))
    cells = [(model.entity.weight.detach()[model.entity.row_of_entity[e]], i) for e, i in places]
    cells += [(model.scorer.relation.detach()[r], i) for r, i in product(range(3), range(3))]
    for number, (row, column) in enumerate(cells):
        value = float(row[column])
        row[column] = value + step
        above = expected_reward()
        row[column] = value - step
        differences[number] = (above - expected_reward()) / (2 * step)
        row[column] = value
    # The optimiser goes down, the reward is to go up.
    assert torch.allclose(-sampler.optimizer.gradient, differences, atol=1e-8)
    assert differences.abs().max() > 0.01
    assert sampler.entropy_floor == float("inf") or kinds == {True, False}


def test_normalised_rewards_have_mean_0_and_spread_1_over_the_batch():
    batch = batch_of(GRAPH.train[:4], heads=2)
    sampler = sampler_of(normalise_reward=True)
    negatives = sampler.propose(batch, no_opinion)
    given = rewarded(batch, negatives)
    (square,) = (statistic(given.value, given.value[:, 0], given.value) for statistic in sampler.statistics().values())
    assert given.means == {"square of the reward": pytest.approx(float(square.mean()))}
    reward = sampler.earned(batch, negatives, given)
    assert float(reward.value.mean()) == pytest.approx(0, abs=1e-12)
    assert float(reward.value.std(correction=0)) == pytest.approx(1)
    same = Reward(torch.full((2, 3), 4.0), 4.0, {"square of the reward": 16.0})
    assert not normalised(same).value.any()


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "exact"},
        {"baseline": PreviousEpoch()},
        {"baseline": RunningMean(0.9)},
        {"baseline": LeaveOneOut(), "num_negatives": 4},
        {"replacement": False, "num_negatives": 3},
        {"normalise_reward": True},
    ],
)
def test_feedback_raises_the_expected_reward(options: dict[str, Any]):
    sampler = sampler_of(**options, optimizer=fast_adam)
    batch = batch_of(GRAPH.train[:6], heads=3)

    def expected_reward() -> float:
        pool = sampler.propose(batch, no_opinion).pool
        sampler.model.entity.take_gradient()  # nothing was learned from this proposal
        assert pool is not None
        return float((probabilities(sampler, batch, pool) * REWARD[pool]).sum(1).mean())

    before = expected_reward()
    for epoch in range(25):
        step = batch_of(GRAPH.train[:6], heads=3, epoch=epoch)
        negatives = sampler.propose(step, no_opinion)
        sampler.feedback(step, negatives, rewarded(step, negatives))
    assert expected_reward() > before + 0.3


def test_entropy_is_that_of_the_distribution():
    sampler = sampler_of(pool_size=5)
    batch = batch_of(GRAPH.train[:4], heads=2)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.pool is not None
    expected = probabilities(sampler, batch, negatives.pool)
    entropy = sampler.metrics()["generator/entropy"]
    assert torch.allclose(entropy, -(expected * expected.log()).sum(1))


def test_a_stage_starts_with_a_fresh_baseline_and_keeps_the_model():
    sampler = sampler_of(baseline=RunningMean(0.5))
    batch = batch_of(GRAPH.train[:4])
    negatives = sampler.propose(batch, no_opinion)
    sampler.feedback(batch, negatives, rewarded(batch, negatives))
    weight, used = sampler.model.entity.weight.detach().clone(), sampler.optimizer
    assert sampler.state()["baseline"].any()
    sampler.start_stage()
    assert not sampler.state()["baseline"].any()
    assert sampler.optimizer is not used
    assert sampler.model.entity.weight.equal(weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool_size": 8}, "generator.pool_size must not exceed the graph's 7 entities, got 8"),
        ({"pool_size": 0}, "generator.pool_size must be at least 1, got 0"),
        ({"num_negatives": 0}, "generator.num_negatives must be at least 1, got 0"),
        ({"temperature": 0.0}, "generator.temperature must be positive, got 0.0"),
        ({"side": "left"}, "generator.side must be one of uniform, bernoulli, got 'left'"),
        ({"estimator": "guess"}, "generator.estimator must be one of reinforce, exact, got 'guess'"),
        (
            {"baseline": LeaveOneOut(), "num_negatives": 1},
            "generator.num_negatives must be at least 2 with the leave-one-out baseline, got 1",
        ),
        (
            {"replacement": False, "num_negatives": 1},
            "generator.num_negatives must be at least 2 without replacement, got 1",
        ),
        (
            {"replacement": False, "num_negatives": 7},
            "generator.num_negatives must not exceed pool_size 6 without replacement, got 7",
        ),
        ({"entropy_weight": -1.0}, "generator.entropy_weight must be at least 0, got -1.0"),
        (
            {"entropy_floor": 1.8},
            "generator.entropy_floor must be above 0 and at most the logarithm of pool_size 6, 1.792, got 1.8",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        sampler_of(**options)
    assert str(error.value) == message


def test_model_options_are_the_users():
    model = partial(KGEModel, **MODEL_OPTIONS, scoring=distmult)
    sampler = sampler_of(model=model, dim=5)
    assert sampler.model.entity.width == 5
    assert sampler.model.name == "generator"
