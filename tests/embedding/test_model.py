"""A model's scores against those of single triples, and on many ranks against one."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import scipy.stats
import torch
from torch import Tensor

import embedding.scoring.candidate_blocks
from embedding.model import KGEModel
from embedding.scoring.hake import HAKE
from embedding.scoring.rotate import RotatE
from embedding.scoring.transd import TransD
from embedding.scoring.transr import TransR
from graph.errors import InputError
from graph.sampling import PositiveOrder
from tests.ranks import run_on_ranks
from tests.worlds import batch_of, context_of, conve, families, in_order, model_of, site_of, transe, tucker
from trainer.runtime import Runtime

KINDS = {
    "TransE": transe,
    "TransD": lambda dim: TransD(dim, norm=1),
    "RotatE": RotatE,
    "TransR": partial(TransR, relation_dim=3),
    "HAKE": partial(HAKE, modulus_weight=1.0, phase_weight=0.5),
    "TuckER": tucker,
    "ConvE": partial(conve, height=2, kernel=2),
    "TransE, reciprocal": transe,
    "ConvE, reciprocal": partial(conve, height=2, kernel=2),
}


@pytest.mark.parametrize(("chunk_size", "own"), [(1, False), (4, False), (4, True)])
def test_a_batchs_scores_equal_those_of_its_triples(chunk_size: int, own: bool) -> None:
    graph = families()
    model = model_of(site_of(graph))
    order = PositiveOrder(
        graph.train,
        context_of(graph).statistics.head_probability,
        batch_size=16,
        chunk_size=chunk_size,
        sides="one",
        seed=0,
    )
    batch = order.batch(2)
    entity = batch.integers("negatives", 5, graph.num_entities)
    if own:  # each positive has negatives of its own, though it shares a chunk
        entity = entity.repeat_interleave(chunk_size, 0)
    rows = model.entity.gather_all(model.entity.weight.detach())
    relation = model.scorer.relation_rows(batch.relation)
    positive, negative = model.score(batch, entity)
    torch.testing.assert_close(positive, model.scoring.score(rows[batch.head], relation, rows[batch.tail]))
    for i in range(16):
        for j in range(5):
            e = rows[entity[i * len(entity) // 16, j]]
            head, tail = rows[batch.head[i]], rows[batch.tail[i]]
            triple = (e, relation[i], tail) if i < batch.head_rows else (head, relation[i], e)
            torch.testing.assert_close(negative[i, j], model.scoring.score(*triple))
    torch.testing.assert_close(model.score_candidates(batch, entity), negative)


class Shares(NamedTuple):
    """What the ranks found for their chunks, and the gradients that they agree on."""

    head_rows: int
    positive: Tensor
    negative: Tensor
    pool: Tensor
    loss: Tensor
    dense: Tensor
    entity: Tensor


def score_share(rank: int, world_size: int, kind: str, chunks: int) -> Shares:
    """A step of some chunks whose loss asks twice: for negatives, and for a pool as a generator does."""
    embedding.scoring.candidate_blocks._BLOCK_NUMBERS = 64  # blocks, computed again in backward, under DDP
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    graph = families()
    model = model_of(site_of(graph, runtime), scoring=KINDS[kind], reciprocal=kind.endswith("reciprocal"))
    order = PositiveOrder(
        graph.train, context_of(graph).statistics.head_probability, batch_size=10, chunk_size=2, sides="one", seed=0
    )
    batch = runtime.share(order.batch(1).chunks(0, chunks))
    positive, negative = model.score(batch, batch.integers("negatives", 5, graph.num_entities))
    pool = model.score_candidates(batch, batch.integers("pool", 3, graph.num_entities))
    loss = batch.share_of_mean((negative.mean(1) - positive).square() + pool.square().sum(1))
    loss.backward()
    gradient = model.entity.take_gradient()
    rows = torch.zeros_like(model.entity.weight.detach()).index_copy(0, gradient.row, gradient.value)
    dense = [each.grad for each in model.scorer.parameters()]
    return Shares(
        batch.head_rows,
        positive.detach(),
        negative.detach(),
        pool.detach(),
        loss.detach(),
        torch.cat([each.flatten() for each in dense if each is not None]),
        model.entity.gather_all(rows),
    )


def score_shares(rank: int, world_size: int) -> dict[tuple[str, int], Shares]:
    return {(kind, chunks): score_share(rank, world_size, kind, chunks) for kind in KINDS for chunks in (5, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_scores_and_gradients_do_not_depend_on_the_ranks(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding.scoring.candidate_blocks, "_BLOCK_NUMBERS", 64)
    found = run_on_ranks(world_size, score_shares)
    assert any(len(each["TransE", 2].positive) == 0 for each in found) == (world_size == 3)  # 3 ranks, 2 chunks
    for step, alone in score_shares(0, 1).items():
        ranks = [each[step] for each in found]
        for name in ("positive", "negative", "pool"):
            together = in_order([(getattr(each, name), each.head_rows) for each in ranks])
            torch.testing.assert_close(together, getattr(alone, name), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(sum(each.loss for each in ranks), alone.loss, rtol=1e-12, atol=0)
        assert alone.dense.abs().max() > 0
        for each in ranks:
            torch.testing.assert_close(each.dense, alone.dense, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(each.entity, alone.entity, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["TransE", "TransR", "TuckER", "ConvE"])
def test_reciprocal_relations_ask_for_tails_alone(kind: str) -> None:
    graph = families()
    model = model_of(site_of(graph), scoring=KINDS[kind], reciprocal=True)
    assert len(model.scorer.relation) == 2 * graph.num_relations
    batch = batch_of(graph.train[:6], heads=4)
    entity = batch.integers("negatives", 5, graph.num_entities)
    rows, relations = model.entity.gather_all(model.entity.weight.detach()), model.scorer.relation
    positive, negative = model.score(batch, entity)
    for i, (head, relation, tail) in enumerate(graph.train[:6].tolist()):
        kept, target, asked = (tail, head, relation + graph.num_relations) if i < 4 else (head, tail, relation)
        expected = model.scoring.score(rows[kept], relations[asked], rows[target])
        torch.testing.assert_close(positive[i], expected)
        many = model.scoring.score(rows[kept], relations[asked], rows[entity[i]])
        torch.testing.assert_close(negative[i], many)
    torch.testing.assert_close(model.score_candidates(batch, entity), negative)
    _, asked_rows, heads = model.query_rows(batch)
    assert heads == 0
    added = graph.num_relations * (torch.arange(6) < 4)
    assert torch.equal(asked_rows, relations[batch.relation + added])


def test_reciprocal_relations_leave_the_others_values_as_they_were() -> None:
    plain, doubled = (model_of(site_of(families()), reciprocal=each).scorer.relation for each in (False, True))
    assert torch.equal(plain, doubled[: len(plain)])
    assert not (doubled[len(plain) :] == plain).any()


def test_a_reset_model_has_its_first_values() -> None:
    model, fresh = (model_of(site_of(families())) for _ in range(2))
    with torch.no_grad():
        model.entity.weight.add_(1)
        model.scorer.relation.add_(1)
    model.reset()
    assert torch.equal(model.entity.weight, fresh.entity.weight)
    assert torch.equal(model.scorer.relation, fresh.scorer.relation)
    other = model_of(site_of(families(), seed=4))
    assert not torch.equal(model.scorer.relation, other.scorer.relation)
    assert not torch.equal(*(each.entity.gather_all(each.entity.weight.detach()) for each in (model, other)))


OWN = 6 / 20**0.5  # half the width of TransE's uniform distribution at d 20
ENTITY_XAVIER = (2 / (128 + 20)) ** 0.5  # 128 entities
RELATION_XAVIER = (2 / (20 + 20)) ** 0.5  # 20 relations


@pytest.mark.parametrize(
    ("options", "kinds", "deviations"),
    [
        ({}, "uu", (OWN / 3**0.5, OWN / 3**0.5)),
        ({"init_scale": 0.3}, "uu", (0.3 / 3**0.5, OWN / 3**0.5)),
        ({"init": "normal"}, "nu", (OWN / 3**0.5, OWN / 3**0.5)),
        ({"init": "normal", "init_scale": 0.1, "relation_init_scale": 0.2}, "nn", (0.1, 0.2)),
        ({"init": "xavier_uniform", "relation_init_scale": 1.0}, "uu", (ENTITY_XAVIER, RELATION_XAVIER)),
        ({"init": "xavier_normal", "init_scale": 0.5}, "nu", (ENTITY_XAVIER / 2, OWN / 3**0.5)),
    ],
)
def test_rows_start_with_the_distribution_that_is_asked_for(
    options: dict[str, Any], kinds: str, deviations: tuple[float, float]
) -> None:
    model = model_of(site_of(families()), dim=20, **options)
    for rows, kind, deviation in zip((model.entity.weight, model.scorer.relation), kinds, deviations, strict=True):
        values = rows.detach().double().flatten()
        if kind == "n":
            expected = scipy.stats.norm(scale=deviation)
        else:
            expected = scipy.stats.uniform(-(3**0.5) * deviation, 2 * 3**0.5 * deviation)
        assert scipy.stats.kstest(values.numpy(), expected.cdf).pvalue > 1e-3


def test_max_norm_holds_for_each_part_of_a_row_from_the_start() -> None:
    model = model_of(site_of(families()), dim=6, scoring=lambda dim: TransD(dim, norm=1), max_norm=0.7)
    for part in (*model.entity.weight.split(6, dim=1), *model.scorer.relation.split(6, dim=1)):
        assert part.norm(dim=1).max() <= 0.7 + 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "generator.dim must be at least 1, got 0"),
        ({"max_norm": 0.0}, "generator.max_norm must be positive or null, got 0.0"),
        ({"init_scale": -1.0}, "generator.init_scale must be a positive number or null, got -1.0"),
        ({"init_scale": float("nan")}, "generator.init_scale must be a positive number or null, got nan"),
        ({"entity_dropout": 1.0}, "generator.entity_dropout must be at least 0 and below 1, got 1.0"),
        ({"relation_dropout": -0.1}, "generator.relation_dropout must be at least 0 and below 1, got -0.1"),
        ({"relation_init_scale": 0.0}, "generator.relation_init_scale must be a positive number or null, got 0.0"),
        (
            {"init": "zeros"},
            "generator.init must be one of uniform, normal, xavier_uniform, xavier_normal, got 'zeros'",
        ),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    defaults = {
        "dim": 4,
        "max_norm": None,
        "init": "uniform",
        "init_scale": None,
        "relation_init_scale": None,
        "entity_dropout": 0.0,
        "relation_dropout": 0.0,
        "reciprocal": False,
    }
    with pytest.raises(InputError, match=message):
        KGEModel(site_of(families()), name="generator", scoring=transe, **(defaults | options))
