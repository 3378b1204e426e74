from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import DenseAdam
from generator.distinct_draws import policy_coefficients
from generator.sampler import Reward
from generator.whole_table_softmax import WholeTableSoftmaxSampler
from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples
from tests.ranks import run_on_ranks
from tests.worlds import MODEL_OPTIONS, adam, batch_of, context_of, distmult, graph_of, no_opinion, site_of, transe
from trainer.runtime import Runtime

EVERYTHING = 2  # relation under which entity 0 has every entity as a tail
GRAPH = graph_of(
    [(0, 0, 1), (2, 1, 3), (4, 0, 6), (5, 1, 0), (1, 0, 2), (1, 0, 4), (1, 0, 6)]
    + [(0, EVERYTHING, tail) for tail in range(7)],
    num_entities=7,
    num_relations=3,
)
KNOWN = KnownTriples.of(GRAPH.train, 7, 3)


class Recorder:
    """Stands for an optimiser: keeps the gradient and changes nothing."""

    def __init__(self, model: KGEModel) -> None:
        self.model = model

    def step(self) -> None:
        rows, table = self.model.entity.take_gradient(), self.model.entity
        entity = torch.zeros_like(table.weight).index_copy_(0, rows.row, rows.value)
        self.entity = table.gather_all(entity)
        self.relation = self.model.scorer.relation.grad
        self.model.scorer.relation.grad = None


def fast_adam(model: KGEModel) -> ModelOptimizer:
    return DenseAdam(
        model, lr=0.1, relation_lr=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=None
    )


def sampler_of(runtime: Runtime | None = None, *, scoring: Any = distmult, **options: Any) -> WholeTableSoftmaxSampler:
    defaults: dict[str, Any] = {
        "model": partial(KGEModel, **MODEL_OPTIONS | {"init_scale": 1.2}, scoring=scoring),
        "optimizer": adam,
        "dim": 3,
        "num_negatives": 3,
        "side": "uniform",
        "supervised_weight": 0.0,
        "mask_known": False,
    }
    return WholeTableSoftmaxSampler(context_of(GRAPH, site_of(GRAPH, runtime)), **(defaults | options))


def masked(sampler: WholeTableSoftmaxSampler, batch: Batch) -> Tensor:
    """Which entities are out of the softmax of each positive."""
    known = KNOWN.contains(batch, torch.arange(7).expand(len(batch.head), -1))
    return known & ((~known).sum(1, keepdim=True) >= sampler.num_negatives) & sampler.mask_known


def scores(sampler: WholeTableSoftmaxSampler, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of all entities for each positive, with the table and the relations that they are differentiable by."""
    model = sampler.model
    table = model.entity.weight.detach()[model.entity.row_of_entity].requires_grad_()
    relation = model.scorer.relation.detach().clone().requires_grad_()
    rows = []
    for i in range(len(batch.head)):
        r = relation[batch.relation[i]]
        ends = (table, table[batch.tail[i]]) if i < batch.head_rows else (table[batch.head[i]], table)
        rows.append(model.scoring.score(ends[0], r, ends[1]))
    return torch.stack(rows), table, relation


def test_first_draws_follow_the_softmax_over_all_entities():
    for mask_known in (False, True):
        sampler = sampler_of(mask_known=mask_known)
        batch = batch_of(GRAPH.train[[0, 4]].repeat_interleave(3000, 0), heads=3000)
        negatives = sampler.propose(batch, no_opinion)
        expected = scores(sampler, batch)[0].masked_fill(masked(sampler, batch), -torch.inf).softmax(1)
        for rows in (slice(0, 3000), slice(3000, 6000)):
            drawn = torch.bincount(negatives.entity[rows, 0], minlength=7)
            share = expected[rows.start].detach()
            assert (drawn[share == 0] == 0).all()
            assert chisquare(drawn[share > 0].numpy(), 3000 * share[share > 0].numpy()).pvalue > 1e-3
        assert all(len(set(row)) == 3 for row in negatives.entity.tolist())


def test_log_probabilities_are_those_of_the_softmax():
    batch = batch_of(GRAPH.train[:6], heads=3)
    sampler = sampler_of()
    negatives = sampler.propose(batch, no_opinion)
    expected = scores(sampler, batch)[0].log_softmax(1).detach()
    assert negatives.log_prob is not None
    assert negatives.proposal is not None
    assert torch.allclose(negatives.log_prob, expected.gather(1, negatives.entity))
    assert torch.allclose(negatives.proposal.negative, expected.gather(1, negatives.entity))
    assert torch.allclose(negatives.proposal.target, expected.gather(1, batch.target[:, None])[:, 0])
    assert torch.allclose(sampler.metrics()["generator/target_log_prob"], negatives.proposal.target)
    every = sampler.log_q(batch, torch.arange(7)[None])
    assert every is not None
    assert torch.allclose(every, expected)


def test_known_facts_are_masked_but_where_too_few_entities_are_left():
    batch = batch_of(GRAPH.train)
    sampler = sampler_of(mask_known=True)
    negatives = sampler.propose(batch, no_opinion)
    facts = set(map(tuple, GRAPH.train.tolist()))
    assert negatives.known is not None
    assert negatives.proposal is None
    for row, (head, relation, _) in enumerate(GRAPH.train.tolist()):
        drawn = [(head, relation, entity) in facts for entity in negatives.entity[row].tolist()]
        assert all(drawn) if relation == EVERYTHING else not any(drawn)
        assert negatives.known[row].tolist() == drawn
    expected = scores(sampler, batch)[0].masked_fill(masked(sampler, batch), -torch.inf).log_softmax(1)
    assert negatives.log_prob is not None
    assert torch.allclose(negatives.log_prob, expected.gather(1, negatives.entity).detach())


@pytest.mark.parametrize("scoring", [distmult, transe])
@pytest.mark.parametrize("mask_known", [False, True])
@pytest.mark.parametrize("supervised_weight", [0.0, 0.7])
def test_gradient_is_that_of_the_draws_and_of_the_right_answers(
    scoring: Any, mask_known: bool, supervised_weight: float
):
    options = {"mask_known": mask_known, "supervised_weight": supervised_weight}
    sampler = sampler_of(optimizer=Recorder, scoring=scoring, **options)
    batch = batch_of(GRAPH.train, heads=5)
    negatives = sampler.propose(batch, no_opinion)
    reward = negatives.entity.double().mul(0.37).sin()
    sampler.feedback(batch, negatives, Reward(reward, 0.0))

    every, table, relation = scores(sampler, batch)
    out = masked(sampler, batch)
    log_prob = every.masked_fill(out, -torch.inf).log_softmax(1).gather(1, negatives.entity)
    # The right answer is compared with what is in the softmax, and with itself.
    inside = out.clone().scatter_(1, batch.target[:, None], False)
    duplicate = ~masked(sampler, batch).gather(1, batch.target[:, None])[:, 0]
    answer = every.gather(1, batch.target[:, None])[:, 0]
    total = every.masked_fill(inside, -torch.inf).logsumexp(1)
    if mask_known:  # where it was not masked for want of others, it is there twice
        total = torch.where(duplicate, torch.logaddexp(total, answer), total)
    value = (policy_coefficients(log_prob.detach(), reward) * log_prob).sum(1) + supervised_weight * (answer - total)
    by_table, by_relation = torch.autograd.grad(-value.mean(), [table, relation])
    assert torch.allclose(sampler.optimizer.entity, by_table, atol=1e-12)
    assert torch.allclose(sampler.optimizer.relation, by_relation, atol=1e-12)


def gradients_on(rank: int, world_size: int) -> list[tuple[Tensor, Tensor]]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    found = []
    for mask_known in (False, True):
        sampler = sampler_of(runtime, optimizer=Recorder, mask_known=mask_known, supervised_weight=0.7)
        batch = runtime.share(batch_of(GRAPH.train[:5], heads=3))
        negatives = sampler.propose(batch, no_opinion)
        sampler.feedback(batch, negatives, Reward(negatives.entity.double().mul(0.37).sin(), 0.0))
        found.append((sampler.optimizer.entity, sampler.optimizer.relation))
    return found


@pytest.mark.slow
def test_gradients_on_several_ranks_are_those_of_one():
    alone = gradients_on(0, 1)
    for ranks in (2, 3):
        for found in run_on_ranks(ranks, gradients_on):
            for (entity, relation), (expected_entity, expected_relation) in zip(found, alone, strict=True):
                assert torch.allclose(entity, expected_entity)
                assert torch.allclose(relation, expected_relation)


@pytest.mark.parametrize("mask_known", [False, True])
@pytest.mark.parametrize("supervised_weight", [0.0, 1.0])
def test_it_learns_to_please_and_to_complete_the_graph(mask_known: bool, supervised_weight: float):
    batch = batch_of(GRAPH.train[:6], heads=3)
    sampler = sampler_of(supervised_weight=supervised_weight, mask_known=mask_known, optimizer=fast_adam)
    wanted = float(supervised_weight == 0)

    def success() -> float:
        """The probability of entity 5, or of the right answer."""
        probability = scores(sampler, batch)[0].detach().masked_fill(masked(sampler, batch), -torch.inf).softmax(1)
        sampler.propose(batch, no_opinion)
        sampler.model.entity.take_gradient()  # nothing was learned from this proposal
        return float(
            probability[:, 5].mean() if wanted else sampler.metrics()["generator/target_log_prob"].exp().mean()
        )

    before = success()
    for epoch in range(20):
        step = batch_of(GRAPH.train[:6], heads=3, epoch=epoch)
        negatives = sampler.propose(step, no_opinion)
        sampler.feedback(step, negatives, Reward(wanted * (negatives.entity == 5).double(), 0.0))
    assert success() > before + 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 1}, "generator.num_negatives must be at least 2, got 1"),
        ({"num_negatives": 7}, "generator.num_negatives must be below the graph's 7 entities, got 7"),
        ({"side": "left"}, "generator.side must be one of uniform, bernoulli, got 'left'"),
        ({"supervised_weight": -1.0}, "generator.supervised_weight must be at least 0, got -1.0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        sampler_of(**options)
    assert str(error.value) == message
