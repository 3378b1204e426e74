"""Sums over all entities, and choices among them, beside those of the whole matrix of scores."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import softplus

import embedding.answers
import embedding.table_draws
import embedding.whole_table
from embedding.answers import sum_of_answers
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from embedding.scoring.transd import TransD
from embedding.table_draws import draw_entities
from embedding.whole_table import log_sum_exp, sum_scores, sum_softplus
from graph.batch import Batch
from graph.known import KnownTriples
from tests.ranks import run_on_ranks
from tests.worlds import (
    batch_of,
    conve,
    distmult,
    families,
    graph_of,
    in_order,
    model_of,
    set_entities,
    site_of,
    transe,
    tucker,
)
from trainer.runtime import Runtime

MODELS: dict[str, Callable[..., KGEModel]] = {
    "TransE": partial(model_of, scoring=transe),
    "DistMult": partial(model_of, scoring=distmult),
    "TransD": partial(model_of, scoring=partial(TransD, norm=2)),
    "ComplEx, reciprocal": partial(model_of, scoring=partial(ComplEx, precision="float32"), reciprocal=True),
    "TuckER": partial(model_of, scoring=tucker),
    "TuckER, normalised": partial(
        model_of,
        scoring=partial(tucker, batch_norm=True, hidden1_dropout=0.3, hidden2_dropout=0.3),
        reciprocal=True,
        entity_dropout=0.2,
        relation_dropout=0.2,
    ),
    "ConvE, reciprocal": partial(model_of, dim=12, scoring=conve, reciprocal=True),
    "ConvE, normalised": partial(
        model_of,
        dim=12,
        scoring=partial(conve, batch_norm=True, feature_map_dropout=0.3, projection_dropout=0.3),
        reciprocal=True,
        entity_dropout=0.2,
        relation_dropout=0.2,
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that 128 entities are several blocks on each rank, and the answers of a few queries too."""
    for module in (embedding.whole_table, embedding.table_draws):
        monkeypatch.setattr(module, "_BLOCK_ROWS", 20)
    monkeypatch.setattr(embedding.answers, "_BLOCK_PAIRS", 16)


@dataclass(frozen=True)
class Found:
    """Of one rank, or of the whole; gradients are those of the whole on every rank."""

    value: Tensor
    head_rows: int
    by_entity: Tensor
    by_dense: list[Tensor]


def small_scores(name: str, runtime: Runtime | None = None, storage: str = "memory") -> KGEModel:
    """Scores below 20, from where on torch rounds softplus(x) to x."""
    model = MODELS[name](site_of(families(), runtime, storage=storage))
    model.entity.weight.mul_(0.3)
    model.encode()
    return model


def whole_batch(*, chunks: int = 6) -> Batch:
    """Chunks of two, of which half corrupt heads; weights differ."""
    batch = batch_of(families().train[300 : 300 + 2 * chunks], heads=chunks // 2, chunk_size=2)
    weight = torch.arange(1.0, 2 * chunks + 1, dtype=torch.float64)
    return replace(batch, weight=weight, global_weight=float(weight.sum()))


def answers(batch: Batch) -> tuple[Tensor, Tensor]:
    return KnownTriples.of(families().train, 128, families().num_relations).answers(batch)


def finish(model: KGEModel, batch: Batch, value: Tensor) -> Found:
    batch.share_of_mean(value).backward()
    rows, table = model.entity.take_gradient(), model.entity
    by_entity = torch.zeros_like(table.weight).index_copy_(0, rows.row, rows.value)
    dense = [each.grad for each in model.scorer.parameters()]
    return Found(
        value.detach(), batch.head_rows, table.gather_all(by_entity), [each for each in dense if each is not None]
    )


def by_blocks(rank: int, world_size: int, name: str, chunks: int, storage: str = "memory") -> Found:
    """All reductions in one value."""
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    model = small_scores(name, runtime, storage)
    batch = runtime.share(whole_batch(chunks=chunks))
    positive, _ = model.score(batch, batch.target.view(-1, 2))
    known = answers(batch)
    value = (
        log_sum_exp(model, batch) - positive + 0.1 * sum_softplus(model, batch, 1.0) + 0.3 * sum_scores(model, batch)
    )
    return finish(
        model, batch, value + 2 * log_sum_exp(model, batch, known) - 0.2 * sum_of_answers(model, batch, known)
    )


def by_matrix(name: str, chunks: int) -> Found:
    """The same from the scores of all entities."""
    model, batch = small_scores(name), whole_batch(chunks=chunks)
    positive, score = model.score(batch, torch.arange(128).expand(len(batch.chunk), -1).contiguous())
    known = torch.zeros(score.shape, dtype=torch.bool)
    known[answers(batch)] = True
    value = score.logsumexp(1) - positive + 0.1 * softplus(1 + score).sum(1) + 0.3 * score.sum(1)
    value = value + 2 * score.masked_fill(known, -torch.inf).logsumexp(1) - 0.2 * score.where(known, 0.0).sum(1)
    return finish(model, batch, value)


def assert_same(value: Tensor, found: Found, expected: Found, case: str) -> None:
    pairs = [(value, expected.value), (found.by_entity, expected.by_entity)]
    pairs += zip(found.by_dense, expected.by_dense, strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10, msg=lambda text: f"{case}: {text}")


@every_model
def test_value_and_gradient_are_those_of_the_whole_matrix(name: str):
    found, expected = by_blocks(0, 1, name, 6), by_matrix(name, 6)
    assert expected.by_entity.abs().sum(1).min() > 0
    assert_same(found.value, found, expected, name)


# Of 2 chunks the last of 3 ranks has none.
REDUCED = [*((name, 6) for name in MODELS), ("TransE", 2), ("ConvE, reciprocal", 2)]
REDUCED += [("TuckER, normalised", 2), ("ConvE, normalised", 2)]


def reduce_all(rank: int, world_size: int, storage: str) -> list[Found]:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        return [by_blocks(rank, world_size, *case, storage) for case in REDUCED]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "replicated"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_value_and_gradient_are_the_same_on_ranks(world_size: int, storage: str):
    for (name, chunks), *parts in zip(REDUCED, *run_on_ranks(world_size, reduce_all, storage), strict=True):
        value = in_order([(part.value, part.head_rows) for part in parts])
        for part in parts:
            assert_same(value, part, by_matrix(name, chunks), f"{name}, {chunks} chunks")


def test_answers_may_be_few_or_many_or_none():
    model = model_of(site_of(families()), scoring=distmult)
    batch = batch_of(families().train[:6], heads=3)
    row = torch.tensor([0] * 37 + [2] + [3, 3, 3] + [5] * 12)
    entity = torch.arange(len(row)) * 5 % 128
    score = model.score_candidates(batch, torch.arange(128).expand(6, -1).contiguous())
    expected = torch.stack([score[i, entity[row == i]].sum() for i in range(6)])
    torch.testing.assert_close(sum_of_answers(model, batch, (row, entity)), expected)
    none = row[:0]
    assert sum_of_answers(model, batch, (none, none)).equal(torch.zeros(6, dtype=torch.float64))


def seven() -> KGEModel:
    """A graph of 7 entities, whose scores are far from equal."""
    model = model_of(site_of(graph_of([(0, 0, 1), (2, 0, 3)], 7, 1)), dim=2, scoring=distmult)
    generator = torch.Generator().manual_seed(1)
    set_entities(model, 1.5 * torch.randn(7, 2, dtype=torch.float64, generator=generator))
    model.scorer.relation.data.fill_(1.0)
    return model


def queries(count: int, *, heads: bool = False) -> Batch:
    """The same query again and again."""
    return batch_of(torch.tensor([[0, 0, 1]]).expand(count, -1), heads=count if heads else 0)


def softmax_of(model: KGEModel, batch: Batch) -> Tensor:
    return model.score_candidates(batch.chunks(0, 1), torch.arange(7)[None])[0].detach().softmax(0)


@pytest.mark.parametrize("heads", [False, True])
def test_the_first_draws_follow_the_softmax(heads: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding.table_draws, "_BLOCK_ROWS", 3)
    model, batch = seven(), queries(20000, heads=heads)
    entity = draw_entities(model, batch, 1, "test")
    expected = softmax_of(model, batch)
    assert expected.max() > 4 * expected.min()
    count = torch.bincount(entity[:, 0], minlength=7)
    assert chisquare(count.numpy(), (20000 * expected).numpy()).pvalue > 1e-3


def test_pairs_of_draws_are_those_without_replacement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding.table_draws, "_BLOCK_ROWS", 3)
    model, batch = seven(), queries(40000)
    first, second = draw_entities(model, batch, 2, "test").T
    p = softmax_of(model, batch)
    expected = torch.tensor([[float(p[i] * p[j] / (1 - p[i])) if i != j else 0.0 for j in range(7)] for i in range(7)])
    count = torch.bincount(first * 7 + second, minlength=49).view(7, 7)
    off = ~torch.eye(7, dtype=torch.bool)
    assert count.diagonal().sum() == 0
    probability = expected[off].double() / expected[off].double().sum()
    assert chisquare(count[off].numpy(), (40000 * probability).numpy()).pvalue > 1e-3


def test_the_excluded_are_drawn_last():
    model, batch = seven(), queries(5000)
    left_out = torch.tensor([1, 4])
    pairs = torch.arange(5000).repeat_interleave(2), left_out.repeat(5000)
    entity = draw_entities(model, batch, 7, "test", pairs)
    assert torch.isin(entity[:, 5:], left_out).all()
    assert not torch.isin(entity[:, :5], left_out).any()
    expected = softmax_of(model, batch).index_fill(0, left_out, 0.0)
    kept = expected > 0
    count = torch.bincount(entity[:, 0], minlength=7)[kept]
    assert chisquare(count.numpy(), (5000 * expected[kept] / expected.sum()).numpy()).pvalue > 1e-3


def test_draws_are_a_function_of_purpose_seed_and_epoch():
    model, batch = seven(), queries(50)

    def drawn(batch: Batch, purpose: str = "test") -> Tensor:
        return draw_entities(model, batch, 3, purpose)

    assert drawn(batch).equal(drawn(batch))
    for other in (replace(batch, seed=4), replace(batch, epoch=1), replace(batch, chunk=batch.chunk + 50)):
        assert not drawn(batch).equal(drawn(other))
    assert not drawn(batch).equal(drawn(batch, "other"))


def test_all_entities_can_be_drawn():
    model, batch = seven(), queries(50)
    assert draw_entities(model, batch, 7, "test").sort(1).values.equal(torch.arange(7).expand(50, 7))


CHOSEN = [(name, chunks) for name in ("TransE", "DistMult", "TransD") for chunks in (6, 2)]


def choose(rank: int, world_size: int, storage: str = "memory") -> list[tuple[Tensor, Tensor, int]]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        for name, chunks in CHOSEN:
            model = MODELS[name](site_of(families(), runtime, storage=storage))
            batch = runtime.share(whole_batch(chunks=chunks))
            drawn = draw_entities(model, batch, 60, "test")  # more than a rank has rows
            others = draw_entities(model, batch, 5, "test", answers(batch))
            found.append((drawn, others, batch.head_rows))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory", "replicated"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_choices_are_the_same_on_ranks(world_size: int, storage: str):
    for case, alone, *parts in zip(CHOSEN, choose(0, 1), *run_on_ranks(world_size, choose, storage), strict=True):
        for column in range(2):
            assert in_order([(part[column], part[2]) for part in parts]).equal(alone[column]), case


@pytest.mark.parametrize("changed", ["table", "dense"])
@torch.no_grad()
def test_backward_after_a_change_of_what_it_scores_again_is_an_error(changed: str):
    model = small_scores("TuckER")
    with torch.enable_grad():
        value = log_sum_exp(model, whole_batch()).sum()
    (model.entity.weight if changed == "table" else next(iter(model.scoring.parameters()))).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
