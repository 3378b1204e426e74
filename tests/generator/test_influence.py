from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import softplus

from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from generator.influence import InfluenceSampler
from graph.batch import Batch
from graph.errors import InputError
from tests.worlds import batch_of, context_of, distmult, graph_of, model_of, no_opinion, site_of, transe, tucker

EVERYTHING = 2  # relation under which entity 0 has every entity as a tail
GRAPH = graph_of(
    [(0, 0, 1), (2, 1, 3), (4, 0, 6), (5, 1, 0), (1, 0, 2), (1, 0, 4), (1, 0, 6)]
    + [(0, EVERYTHING, tail) for tail in range(7)],
    num_entities=9,
    num_relations=3,
)


def rotate(dim: int) -> ScoringFunction:
    return RotatE(dim)


def sampler_of(scoring: Any = distmult, *, reciprocal: bool = False, **options: Any) -> InfluenceSampler:
    defaults: dict[str, Any] = {
        "num_negatives": 3,
        "pool_size": 8,
        "temperature": 1.0,
        "held_out": 4,
        "held_out_negatives": 3,
        "refresh_steps": 2,
        "damping": None,
        "mask_known": False,
    }
    site = site_of(GRAPH)
    player = model_of(site, dim=4, scoring=scoring, reciprocal=reciprocal)
    return InfluenceSampler(context_of(GRAPH, site, player), **(defaults | options))


def step_of(batch: Batch, step: int) -> Batch:
    return replace(batch, step=step)


class Rows:
    """The player's rows as plain leaves, and what the sampler's two losses are of them, one triple at a time."""

    def __init__(self, sampler: InfluenceSampler) -> None:
        self.sampler, self.model = sampler, sampler.player
        self.entity = self.model.entity.weight[self.model.entity.row_of_entity].clone().requires_grad_()
        self.relation = self.model.scorer.relation.detach().clone().requires_grad_()

    def moved(self, batch: Batch, by: list[Tensor]) -> float:
        """The held-out loss with rows moved by this much."""
        other = Rows(self.sampler)
        with torch.no_grad():
            other.entity += by[0]
            other.relation += by[1]
        return float(other.held_out_loss(batch).detach())

    def score(self, batch: Batch, row: int, candidate: int) -> Tensor:
        of_head, relation = row < batch.head_rows, int(batch.relation[row])
        anchor = int(batch.tail[row] if of_head else batch.head[row])
        head, tail = (candidate, anchor) if of_head else (anchor, candidate)
        if self.model.reciprocal and of_head:
            head, tail, relation = tail, head, relation + 3
        return self.model.scoring.score(self.entity[head], self.relation[relation], self.entity[tail])

    def pair(self, batch: Batch, row: int, candidate: int) -> Tensor:
        return softplus(self.score(batch, row, candidate) - self.score(batch, row, int(batch.target[row])))

    def held_out_loss(self, batch: Batch, fact: int | None = None) -> Tensor:
        """The mean over pairs; of one fact alone, its share of that times the number of facts."""
        sampler = self.sampler
        probe = sampler._probe(batch)  # pyright: ignore[reportPrivateUsage]
        negative = probe.integers("held-out facts' negatives", sampler.held_out_negatives, 9)
        known = sampler.context.known.contains(probe, negative)
        pairs = [(i, int(e)) for i, row in enumerate(negative) for e, k in zip(row, known[i], strict=True) if not k]
        total = sum(self.pair(probe, i, e) for i, e in pairs if fact is None or i == fact)
        return torch.as_tensor(total) / len(pairs) * (1 if fact is None else sampler.held_out)


@pytest.mark.parametrize(
    ("scoring", "reciprocal"),
    [(distmult, False), (distmult, True), (transe, False), (rotate, False), (partial(tucker, relation_dim=2), False)],
)
@pytest.mark.parametrize("chunk_size", [1, 2])
def test_influence_is_what_a_step_on_the_candidate_changes(scoring: Any, reciprocal: bool, chunk_size: int):
    sampler = sampler_of(scoring, reciprocal=reciprocal)
    batch = batch_of(GRAPH.train[:4], heads=2 // chunk_size, chunk_size=chunk_size)
    pool = torch.arange(9).repeat(4 // chunk_size, 1)
    sampler.keep_fresh(batch, 0)
    found = sampler.influence(batch, pool)
    rows, rate = Rows(sampler), 1e-6
    for row, candidate in product(range(4), range(0, 9, 2)):
        slope = torch.sigmoid(rows.score(batch, row, candidate) - rows.score(batch, row, int(batch.target[row])))
        loss = slope.detach() * rows.score(batch, row, candidate)
        entity, relation = torch.autograd.grad(loss, [rows.entity, rows.relation])
        change = rows.moved(batch, [-rate * entity, -rate * relation]) - rows.moved(
            batch, [rate * entity, rate * relation]
        )
        assert float(found[row, candidate]) == pytest.approx(change / (2 * rate), rel=1e-5, abs=1e-7)
    assert (found > 1e-3).any()
    assert (found < -1e-3).any()


def test_damping_divides_by_the_fisher_diagonal():
    sampler = sampler_of(damping=0.05)
    batch = batch_of(GRAPH.train[:4], heads=2)
    sampler.keep_fresh(batch, 0)
    found = sampler.influence(batch, torch.arange(9).repeat(4, 1))
    rows = Rows(sampler)
    leaves = [rows.entity, rows.relation]
    gradient = torch.autograd.grad(rows.held_out_loss(batch), leaves)
    fisher = [torch.zeros_like(each) for each in leaves]
    for fact in range(4):
        for total, each in zip(fisher, torch.autograd.grad(rows.held_out_loss(batch, fact), leaves), strict=True):
            total += each.square() / 4
    direction = [g / (f + 0.05) for g, f in zip(gradient, fisher, strict=True)]
    for row, candidate in product(range(4), range(0, 9, 2)):
        slope = torch.sigmoid(rows.score(batch, row, candidate) - rows.score(batch, row, int(batch.target[row])))
        parts = torch.autograd.grad(rows.score(batch, row, candidate), leaves)
        along = sum((part * each).sum() for part, each in zip(parts, direction, strict=True))
        assert float(found[row, candidate]) == pytest.approx(float((-slope * along).detach()), abs=1e-12)


def test_draws_prefer_what_lowers_the_held_out_loss_and_leave_out_the_suspected():
    sampler = sampler_of(pool_size=9, num_negatives=1, temperature=0.7)
    batch = batch_of(GRAPH.train[[4]].repeat(4000, 1))
    pool = torch.arange(9).repeat(4000, 1)
    with pytest.MonkeyPatch.context() as patch:
        sampler.keep_fresh(batch, 0)
        patch.setattr(Batch, "integers", lambda self, purpose, count, high: pool[:, :count])
        negatives = sampler.propose(batch, no_opinion)
        influence = sampler.influence(batch, pool)[0]
    suspected = influence > 0
    assert 1 < int(suspected.sum()) < 8
    logit = -influence / influence.square().mean().sqrt() / 0.7
    share = logit.masked_fill(suspected, -torch.inf).softmax(0)
    drawn = torch.bincount(negatives.entity[:, 0], minlength=9)
    assert (drawn[suspected] == 0).all()
    assert chisquare(drawn[~suspected].numpy(), 4000 * share[~suspected].numpy()).pvalue > 1e-3
    assert negatives.suspected is not None
    assert not negatives.suspected.any()
    assert sampler.metrics()["generator/suspected"][0] == suspected.double().mean()


def test_at_temperature_0_the_lowest_influences_are_taken_and_the_suspected_only_for_want_of_others():
    batch = batch_of(GRAPH.train[:6], heads=2)
    for count in (2, 8):
        sampler = sampler_of(pool_size=8, num_negatives=count, temperature=0.0)
        negatives = sampler.propose(batch, no_opinion)
        pool = batch.integers("candidates", 8, 9)
        assert negatives.suspected is not None
        influence = sampler.influence(batch, pool)
        for row in range(6):
            entities = dict(zip(pool[row].tolist(), influence[row].tolist(), strict=True))  # each entity once
            fine = sorted((each for each in entities if entities[each] <= 0), key=lambda each: entities[each])
            drawn = negatives.entity[row].tolist()
            assert drawn[: len(fine)] == fine[:count]
            marked = [entities[each] > 0 for each in drawn]
            assert negatives.suspected[row].tolist() == marked
            assert not any(marked[: len(fine)])
    assert negatives.suspected.any()


def test_known_facts_are_drawn_only_for_want_of_others():
    sampler = sampler_of(mask_known=True, pool_size=8, num_negatives=2)
    batch = batch_of(torch.tensor([(1, 0, 2)] * 50 + [(0, EVERYTHING, 1)] * 50))
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.known is not None
    assert negatives.known.equal(sampler.context.known.contains(batch, negatives.entity))
    assert not negatives.known[:50].any()
    left = (~sampler.context.known.contains(batch, batch.integers("candidates", 8, 9))).sum(1)
    assert negatives.known.sum(1).equal((2 - left).clamp(min=0))
    assert negatives.known.any()


def test_looking_leaves_no_gradient_in_the_player():
    sampler = sampler_of()
    batch = batch_of(GRAPH.train[:6], heads=2)
    sampler.propose(batch, no_opinion)
    assert len(sampler.player.entity.take_gradient().row) == 0
    assert all(each.grad is None for each in sampler.player.dense_parameters())


def test_other_facts_are_held_out_at_every_refresh_and_kept_in_between():
    sampler = sampler_of(refresh_steps=2)
    batch = batch_of(GRAPH.train[:6], heads=2)
    seen = []
    for step in range(4):
        sampler.propose(step_of(batch, step), no_opinion)
        seen.append(sampler.influence(batch, torch.arange(9).repeat(6, 1)))
    assert seen[0].equal(seen[1])
    assert seen[2].equal(seen[3])
    assert not seen[1].equal(seen[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, "generator.num_negatives must be at least 1, got 0"),
        ({"pool_size": 2}, "generator.pool_size must be at least 3, got 2"),
        ({"held_out": 0}, "generator.held_out must be at least 1, got 0"),
        ({"held_out_negatives": 0}, "generator.held_out_negatives must be at least 1, got 0"),
        ({"refresh_steps": -1}, "generator.refresh_steps must be at least 0, got -1"),
        ({"temperature": -0.5}, "generator.temperature must be at least 0, got -0.5"),
        ({"damping": 0.0}, "generator.damping must be positive or null, got 0.0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        sampler_of(**options)
    assert str(error.value) == message
