"""Batch norm and dropout inside ConvE and TuckER: statistics of the whole batch while training, running ones elsewhere.

That training is the same on any number of ranks, and that checkpoints bring statistics back, is tested in
test_dense_parameters.py and test_whole_table.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from discriminator.discriminator import Discriminator
from embedding.dropout import RowDropout
from embedding.model import KGEModel
from embedding.scoring.batch_norm import BatchNorm
from embedding.scoring.network import NetworkScoring, batch_norms
from embedding.training_step import TrainingStep
from graph.batch import Batch, Negatives
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import adam, batch_of, conve, families, in_order, model_of, player_of, site_of, tucker
from trainer.runtime import Runtime

DIM = 12
NORMALISED: dict[str, Callable[[int], NetworkScoring]] = {
    "TuckER": partial(tucker, batch_norm=True),
    "ConvE": partial(conve, batch_norm=True),
}
DROPPED: dict[str, Callable[[int], NetworkScoring]] = {
    "TuckER": partial(tucker, batch_norm=True, hidden1_dropout=0.3, hidden2_dropout=0.4),
    "ConvE": partial(conve, batch_norm=True, feature_map_dropout=0.3, projection_dropout=0.4),
}
every = pytest.mark.parametrize("name", NORMALISED)


def whole(*, epoch: int = 0, padded: int = 0) -> Batch:
    """Twelve positives in chunks of two, of which half have their head corrupted; the last ones are padding."""
    batch = batch_of(families().train[100:112], heads=3, chunk_size=2, epoch=epoch)
    weight = torch.linspace(0.5, 1.5, 12, dtype=torch.float64)
    weight[12 - padded :] = 0
    return replace(batch, weight=weight, global_weight=float(weight.sum()))


def step_of(batch: Batch, *, entity: float = 0.0, relation: float = 0.0) -> TrainingStep:
    return TrainingStep(batch, RowDropout("discriminator", entity, relation), 1)


def made(name: str, scorings: dict[str, Callable[[int], NetworkScoring]] = NORMALISED) -> NetworkScoring:
    function = scorings[name](DIM)
    function.fill_dense("a test", 0)
    return function


def rows_of(function: NetworkScoring) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = function.entity_width, function.relation_width
    first, second = (torch.randn(12, width, generator=generator, dtype=torch.float64) for width in widths)
    return first.requires_grad_(), second.requires_grad_()


def trained(name: str, batch: Batch) -> KGEModel:
    """Some steps, after which running statistics are no longer those of the start."""
    model = model_of(site_of(families()), dim=DIM, scoring=NORMALISED[name], reciprocal=True)
    player = player_of(model)
    for _ in range(3):
        learn(player, batch)
    return model


def learn(player: Discriminator, batch: Batch) -> None:
    player.learn(player.judge(batch, Negatives(batch.integers("negatives", 3, 128))))


def test_values_and_statistics_are_those_of_torch():
    ours = BatchNorm(*(nn.Parameter(value) for value in torch.randn(2, 3, dtype=torch.float64)))
    theirs = nn.BatchNorm1d(3, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(ours.scale)
        theirs.bias.copy_(ours.shift)
    for seed in range(2):
        value = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        torch.testing.assert_close(ours(value, step_of(whole()).moments), theirs(value.transpose(1, 2)).transpose(1, 2))
        ours.end_step()
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_variance, theirs.running_var)
    torch.testing.assert_close(ours(value, None), theirs.eval()(value.transpose(1, 2)).transpose(1, 2))


@every
def test_gradients_go_through_the_statistics(name: str):
    function = made(name, DROPPED)
    step = step_of(whole(padded=3), entity=0.2, relation=0.2)
    rows = rows_of(function)
    dense = tuple(function.parameters())

    def queries(*values: Tensor) -> Tensor:
        return function.training_queries(values[0], values[1], step)

    assert torch.autograd.gradcheck(queries, (*rows, *dense), fast_mode=True)


@every
def test_padding_does_not_count_and_weights_do_not(name: str):
    function = made(name)
    head, relation = rows_of(function)
    found = function.training_queries(head, relation, step_of(whole(padded=4)))
    eight = whole().selected(torch.arange(4))
    expected = function.training_queries(head[:8], relation[:8], step_of(replace(eight, weight=torch.ones(8).double())))
    torch.testing.assert_close(found[:8], expected)
    everything = function.training_queries(head, relation, step_of(whole()))
    assert (everything[:8] - expected).abs().max() > 1e-3


@every
def test_outside_of_training_a_score_depends_on_its_triple_alone(name: str):
    batch = whole()
    model = trained(name, batch)
    entity = batch.integers_per_positive("negatives", 3, 128)
    scores = model.score_candidates(batch, entity)
    with torch.no_grad():
        torch.testing.assert_close(model.score(batch, entity)[1], scores)
    training = model.score(batch, entity)[1]
    assert (training - scores).abs().max() > 1e-3
    for chunk in range(6):
        one = batch.selected(torch.tensor([chunk]))
        torch.testing.assert_close(model.score_candidates(one, entity[2 * chunk :][:2]), scores[2 * chunk :][:2])


@every
def test_running_statistics_move_with_the_optimiser_and_not_with_scores(name: str):
    batch = whole()
    model = trained(name, batch)
    player = player_of(model)
    before = {key: value.clone() for key, value in model.dense_tensors().items() if "running" in key}
    assert len(before) == 2 * len(batch_norms(model.scoring))
    negatives = Negatives(batch.integers("negatives", 3, 128))
    for _ in range(2):
        verdict = player.judge(batch, negatives)
    assert all(value.equal(model.dense_tensors()[key]) for key, value in before.items())
    player.learn(verdict)
    assert not any(value.equal(model.dense_tensors()[key]) for key, value in before.items())


@every
def test_a_batch_of_one_positive_uses_running_statistics_and_leaves_them(name: str):
    model = trained(name, whole())
    one = batch_of(families().train[7:8])
    before = {key: value.clone() for key, value in model.dense_tensors().items() if "running" in key}
    entity = one.integers("negatives", 3, 128)
    torch.testing.assert_close(model.score(one, entity)[1], model.score_candidates(one, entity))
    learn(player_of(model), one)
    assert all(value.equal(model.dense_tensors()[key]) for key, value in before.items())


@every
def test_dropout_draws_from_epoch_and_chunk(name: str):
    function = made(name, DROPPED)
    head, relation = rows_of(function)

    def queries(batch: Batch) -> Tensor:
        # One positive has no statistics, so only the draws can differ.
        rows = slice(0, len(batch.head))
        return function.training_queries(head[rows], relation[rows], step_of(batch, entity=0.3, relation=0.3))

    one = batch_of(families().train[:1])
    assert queries(one).equal(queries(one))
    assert not queries(one).equal(queries(replace(one, epoch=1)))
    assert not queries(one).equal(queries(replace(one, chunk=one.chunk + 1)))
    assert not queries(one).equal(function.tail_query(head[:1], relation[:1]))


def test_dropout_keeps_the_mean():
    scale = step_of(whole()).scale("hidden2", 0.3, 4000, torch.float64)
    assert set(scale.unique().tolist()) == {0.0, 1 / 0.7}
    assert abs(float((scale == 0).double().mean()) - 0.3) < 4 * (0.21 / 48000) ** 0.5


def test_a_dropped_matrix_is_that_of_the_formula(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedding.scoring.tucker._MATRIX_NUMBERS", 5 * DIM**2)  # three blocks, the last one smaller
    function = tucker(DIM, hidden1_dropout=0.3)
    function.fill_dense("a test", 0)
    head, relation = rows_of(function)
    step = step_of(whole())
    mask = step.scale("hidden1", 0.3, DIM**2, torch.float64).view(12, DIM, DIM)
    expected = torch.einsum("ijk,bi,bj,bik->bk", function.core, head, relation, mask)
    found = function.training_queries(head, relation, step)
    torch.testing.assert_close(found, expected)
    leaves, weight = (head, relation, function.core), torch.linspace(-1, 1, 12 * DIM, dtype=torch.float64).view(12, DIM)
    for mine, theirs in zip(*(torch.autograd.grad(each, leaves, weight) for each in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def statistics_on_rank(rank: int, world_size: int, name: str) -> tuple[Tensor, int, list[Tensor]]:
    """Scores of a batch whose two chunks leave the third rank without work, and the statistics that it leaves."""
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    options = {"dim": DIM, "scoring": DROPPED[name], "entity_dropout": 0.2, "relation_dropout": 0.2}
    model = model_of(site_of(families(), runtime), reciprocal=True, **options)
    optimizer = adam(model)
    for chunks in ([1, 4], [0, 1, 2, 3, 5]):
        batch = runtime.share(whole(padded=1).selected(torch.tensor(chunks)))
        positive, negative = model.score(batch, batch.integers("negatives", 3, 128))
        batch.share_of_mean(positive - negative.square().sum(1)).backward()
        optimizer.step()
    return negative.detach(), batch.head_rows, [value for key, value in model.dense_tensors().items()]


@pytest.mark.slow
@every
@pytest.mark.parametrize("world_size", [2, 3])
def test_statistics_and_draws_are_those_of_one_rank(name: str, world_size: int):
    scores, _, tensors = statistics_on_rank(0, 1, name)
    found = run_on_ranks(world_size, statistics_on_rank, name)
    torch.testing.assert_close(in_order([part[:2] for part in found]), scores, rtol=1e-9, atol=1e-9)
    for _, _, parts in found:
        for mine, theirs in zip(parts, tensors, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [*DROPPED.values(), partial(tucker, hidden2_dropout=0.1)])
def test_a_model_without_reciprocal_relations_is_refused(make: Callable[[int], NetworkScoring]):
    message = r"^discriminator\.reciprocal must be true with batch norm or dropout in (TuckER|ConvE), got False"
    with pytest.raises(InputError, match=message):
        model_of(site_of(families()), dim=DIM, scoring=make)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (tucker, "hidden1_dropout"),
        (tucker, "hidden2_dropout"),
        (conve, "feature_map_dropout"),
        (conve, "projection_dropout"),
    ],
)
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_probability_out_of_range_is_named(make: Callable[..., NetworkScoring], option: str, value: float):
    with pytest.raises(InputError, match=rf"^{option} must be at least 0 and below 1, got {value}$"):
        make(DIM, **{option: value})
