"""Dropout on the rows of queries: what it drops, what it leaves alone, and the same on any number of ranks."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from embedding.scoring.rescal import RESCAL
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.whole_table import log_sum_exp
from graph.batch import Batch
from tests.kernels.arrays import without_kernels
from tests.ranks import run_on_ranks
from tests.worlds import batch_of, distmult, families, in_order, model_of, site_of, transe, tucker
from trainer.runtime import Runtime

SCORINGS: dict[str, Callable[[int], ScoringFunction]] = {
    "TransE": transe,
    "ComplEx": partial(ComplEx, precision="float32"),
    "RotatE": RotatE,
    "TuckER": tucker,
    "RESCAL": partial(RESCAL, precision="float32"),
}


def dropping(site, scoring=distmult, *, entity: float = 0.3, relation: float = 0.6, dim: int = 4) -> KGEModel:
    return model_of(site, scoring=scoring, dim=dim, entity_dropout=entity, relation_dropout=relation)


def batch(*, epoch: int = 0) -> Batch:
    return batch_of(families().train[100:106], heads=2, epoch=epoch)


@pytest.mark.parametrize("name", SCORINGS)
def test_scores_are_those_of_the_dropped_rows(name: str):
    model, given = dropping(site_of(families()), SCORINGS[name]), batch()
    entity = given.integers("negatives", 3, 128)
    positive, negative = model.score(given, entity)
    rows, (anchor, relation, heads) = model.entity.gather_all(model.entity.weight), model.query_rows(given)
    target = rows[given.target]
    for i in range(6):
        score = partial(model.scoring.score, relation=relation[i])
        others = rows[entity[i]]
        if i < heads:
            expected = score(head=target[i], tail=anchor[i]), score(head=others, tail=anchor[i])
        else:
            expected = score(head=anchor[i], tail=target[i]), score(head=anchor[i], tail=others)
        torch.testing.assert_close(positive[i], expected[0])
        torch.testing.assert_close(negative[i], expected[1])


def test_gradients_are_those_of_the_dropped_rows():
    model, given = dropping(site_of(families())), batch()
    entity = given.integers("negatives", 3, 128)
    positive, negative = model.score(given, entity)
    (positive.sum() - negative.square().sum()).backward()
    found = model.entity.take_gradient()
    rows = model.entity.gather_all(model.entity.weight.detach()).requires_grad_()
    relations = model.scorer.relation.detach().clone().requires_grad_()
    of_entities, of_relations = model.dropout.kept_of_entities(given, 4), model.dropout.kept_of_relations(given, 4)
    assert of_entities is not None
    assert of_relations is not None
    query = of_entities.of(rows[given.anchor]) * of_relations.of(relations[given.relation])  # DistMult has no sides
    positive, negative = (query * rows[given.target]).sum(1), (query[:, None] * rows[entity]).sum(2)
    (positive.sum() - negative.square().sum()).backward()
    assert rows.grad is not None
    torch.testing.assert_close(found.value, rows.grad[model.entity.entity[found.row]])
    torch.testing.assert_close(model.scorer.relation.grad, relations.grad)


@pytest.mark.parametrize("heads", [0, 2, 6])
def test_matrices_that_are_not_copied_have_the_same_gradients(heads: int):
    model = dropping(site_of(families()), SCORINGS["RESCAL"])
    given = batch_of(families().train[100:106], heads=heads)
    entity = given.integers("negatives", 3, 128)

    def gradients() -> list[Tensor]:
        positive, negative = model.score(given, entity)
        model.scorer.relation.grad = None
        (positive.sum() - negative.square().sum()).backward()
        relation, found = model.scorer.relation.grad, model.entity.take_gradient()
        assert relation is not None
        return [positive, negative, relation, found.value]

    for mine, theirs in zip(gradients(), without_kernels(gradients), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_it_drops_the_share_that_is_asked_for_and_keeps_the_mean():
    model = dropping(site_of(families()), dim=400)
    parts = model.dropout.kept_of_entities(batch(), 400), model.dropout.kept_of_relations(batch(), 400)
    for kept, share in zip(parts, (0.3, 0.6), strict=True):
        assert kept is not None
        scale = kept.of(torch.ones(6, 400, dtype=torch.float64))
        assert set(scale.unique().tolist()) == {0.0, 1 / (1 - share)}
        assert abs(float((scale == 0).double().mean()) - share) < 4 * (share * (1 - share) / 2400) ** 0.5


def test_another_epoch_drops_others_and_the_same_epoch_the_same():
    model = dropping(site_of(families()))
    first, second, again = (model.query_rows(batch(epoch=epoch))[0] for epoch in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_ranking_and_proposals_are_without():
    dropped, plain = dropping(site_of(families())), model_of(site_of(families()), scoring=distmult)
    entity = batch().integers("negatives", 3, 128)
    with torch.no_grad():
        for mine, theirs in zip(dropped.score(batch(), entity), plain.score(batch(), entity), strict=True):
            assert torch.equal(mine, theirs)


def step(rank: int, world_size: int) -> tuple[list[tuple[Tensor, int]], Tensor, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    model = dropping(site_of(families(), runtime))
    share = runtime.share(batch())
    positive, negative = model.score(share, share.integers("negatives", 3, 128))
    total = log_sum_exp(model, share)
    value = positive + negative.sum(1) + total
    share.share_of_mean(value).backward()
    rows, dense = model.entity.take_gradient(), torch.zeros_like(model.entity.weight)
    dense.index_copy_(0, rows.row, rows.value)
    relation = model.scorer.relation.grad
    assert relation is not None
    return [(value.detach(), share.head_rows)], model.entity.gather_all(dense), relation


@pytest.mark.slow
def test_three_ranks_drop_what_one_drops():
    ((value, _),), rows, relation = step(0, 1)
    found = run_on_ranks(3, step)
    torch.testing.assert_close(in_order([part for parts, _, _ in found for part in parts]), value)
    for _, other_rows, other_relation in found:
        torch.testing.assert_close(other_rows, rows)
        torch.testing.assert_close(other_relation, relation)
