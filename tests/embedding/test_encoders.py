"""Encoders against loops over edges, their gradients against finite differences, and what a step leaves out."""

from functools import partial

import pytest
import torch
from torch import Tensor

from embedding.encoder.choice import EncoderChoice
from embedding.model import KGEModel
from embedding.scoring.rotate import RotatE
from graph.batch import Batch
from graph.errors import InputError
from tests.encoders import KINDS, LAYER, encoded, plain_rows, small_graph
from tests.worlds import adam, batch_of, conve, distmult, model_of, site_of

GRAPH = small_graph()
FACTS = sorted({tuple(triple) for triple in GRAPH.train.tolist()})


def made(model: KGEModel) -> tuple[Tensor, Tensor]:
    return model.entity.gather_all(model.entity.weight), model.scorer.relation.detach()


def batch_with(*triples: tuple[int, int, int], padding: int = 0) -> Batch:
    batch = batch_of(torch.tensor([*triples, *[FACTS[0]] * padding]), heads=1)
    if padding:
        batch.weight[-padding:] = 0.0
    return batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reciprocal", [False, True])
def test_two_layers_equal_a_loop_over_edges(kind: str, reciprocal: bool):
    model = encoded(kind, GRAPH, reciprocal=reciprocal)
    torch.testing.assert_close(made(model), plain_rows(kind, model, FACTS), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_leaves_out_its_positives_and_their_inverses_and_nothing_else(kind: str):
    model = encoded(kind, GRAPH)
    # (6, 2, 7) is in train twice. Of (3, 1, 4) and (4, 1, 3), and of (0, 0, 2) and (0, 1, 2), one stays.
    left_out = [(6, 2, 7), (3, 1, 4), (0, 0, 2), (5, 2, 5)]
    model.begin_step(batch_with(*left_out, padding=2))
    kept = [fact for fact in FACTS if fact not in left_out]
    torch.testing.assert_close(made(model), plain_rows(kind, model, kept), rtol=1e-10, atol=1e-12)
    model.encode()
    torch.testing.assert_close(made(model), plain_rows(kind, model, FACTS), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fanout", [None, [20, 20]], ids=["whole graph", "sampled"])
def test_a_step_leaves_out_all_facts_of_the_entities_of_a_positive(fanout: list[int] | None):
    model = encoded("compgcn mult", GRAPH, fanout=fanout, leave_out="pairs")
    model.begin_step(batch_with((3, 1, 4), (0, 0, 2), (5, 2, 5), padding=2))
    left_out = [(3, 1, 4), (4, 1, 3), (0, 0, 2), (0, 1, 2), (2, 1, 0), (5, 2, 5)]
    expected, _ = plain_rows("compgcn mult", model, [fact for fact in FACTS if fact not in left_out])
    lookup, (place,) = model.entity.look_up(torch.arange(10))
    torch.testing.assert_close(lookup.rows[place].detach(), expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(expected, plain_rows("compgcn mult", model, FACTS)[0])


@pytest.mark.parametrize("fanout", [None, [20, 20]])
@pytest.mark.parametrize("kind", ["compgcn corr", "rgcn block"])
def test_the_biases_of_conve_stay_as_they_were_learned(kind: str, fanout: list[int] | None):
    model = encoded(kind, GRAPH, dim=12, scoring=conve, fanout=fanout)
    expected = plain_rows(kind, model, FACTS)
    torch.testing.assert_close(made(model), expected, rtol=1e-10, atol=1e-12)
    rows = model.entity.gather_all(model.learned_rows)
    assert expected[0].shape == (10, 13)
    assert expected[0][:, 12].equal(rows[:, 12])
    batch = batch_with(*FACTS[2:6])
    model.begin_step(batch)
    model.score(batch, torch.tensor([[1], [2], [3], [4]]))[0].sum().backward()
    gradient = model.take_gradient()
    by_bias = torch.zeros(10, dtype=torch.float64).index_add(
        0, model.entity.entity[gradient.row], gradient.value[:, 12]
    )
    assert by_bias.tolist() == [float(sum(fact[2] == entity for fact in FACTS[2:6])) for entity in range(10)]


def test_residual_adds_the_rows_that_a_layer_got():
    model = encoded("linear", GRAPH, layers=1)
    added = encoded("linear", GRAPH, layers=1, residual=True)
    learned = model.entity.gather_all(model.learned_rows)
    torch.testing.assert_close(made(added)[0], made(model)[0] + learned)


def loss_of(model: KGEModel, batch: Batch, entity: Tensor) -> Tensor:
    """Begins the step, as the trainer does. Uses rows by several look-ups, and relation rows."""
    model.begin_step(batch)
    positive, negative = model.score(batch, entity)
    anchor, relation, _ = model.query_rows(batch)
    return positive.sin().sum() + negative.square().sum() + (anchor * relation).cos().sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_equal_finite_differences(kind: str, batch_norm: bool):
    model = encoded(kind, GRAPH, dropout=0.3, batch_norm=batch_norm)
    batch, entity = batch_with(*FACTS[2:6]), torch.tensor([[1, 9], [4, 4], [0, 7], [2, 3]])
    loss_of(model, batch, entity).backward()
    gradient = model.take_gradient()
    assert torch.equal(gradient.row, torch.arange(10))
    checked = [(model.learned_rows, gradient.value)]
    checked += [(each.detach(), each.grad) for each in model.dense_parameters()]
    generator = torch.Generator().manual_seed(1)
    for value, found in checked:
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        before, losses = value.clone(), []
        for sign in (1, -1):
            value.copy_(before + sign * 1e-6 * direction)
            losses.append(float(loss_of(model, batch, entity).detach()))
        value.copy_(before)
        assert found is not None
        # Batch norm takes some terms away. A parameter that it leaves no effect would move by rounding alone.
        assert float(found.abs().max()) > 1e-5
        expected = (losses[0] - losses[1]) / 2e-6
        assert float((found * direction).sum()) == pytest.approx(expected, rel=2e-6, abs=1e-7)


def test_dropout_is_drawn_anew_in_each_step_and_not_outside_of_steps():
    model = encoded("compgcn mult", GRAPH, dropout=0.5)
    whole = made(model)[0]
    rows = []
    for first in (0, 1, 0):
        batch = batch_of(torch.tensor(FACTS[:3]), heads=1, first=first)
        model.begin_step(batch)
        rows.append(made(model)[0])
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0] == 0, rows[1] == 0)
    assert 0.2 < float((rows[0] == 0).double().mean()) < 0.8
    assert not (whole == 0).any()


def test_a_step_that_was_not_begun_is_refused():
    model = encoded("linear", GRAPH)
    optimizer, batch = adam(model), batch_with(*FACTS[:2])
    model.score(batch, torch.tensor([[1], [2]]))[0].sum().backward()
    with pytest.raises(RuntimeError, match="only in a step that began with begin_step"):
        optimizer.step()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("linear", {"layers": 0}, "encoder.layers must be at least 1, got 0"),
        ("linear", {"dropout": 1.0}, "encoder.dropout must be at least 0 and below 1, got 1.0"),
        ("linear", {"layers": 2, "fanout": [10]}, "encoder.fanout must be null, or a list of 2 .* got \\[10\\]"),
        ("linear", {"leave_out": "all"}, "encoder.leave_out must be one of facts, pairs, got 'all'"),
        ("linear", {"fanout": [0]}, "encoder.fanout must be null, or a list of 1 .* got \\[0\\]"),
        (
            "linear",
            {"fanout": [10], "batch_norm": True},
            "encoder.batch_norm must be false with a fan-out, got true with encoder.fanout=\\[10\\]: it takes means",
        ),
        ("compgcn sub", {"composition": "add"}, "encoder.composition must be one of sub, mult, corr, got 'add'"),
        ("rgcn basis", {"decomposition": "none"}, "encoder.decomposition must be one of basis, block, got 'none'"),
        ("rgcn basis", {"normalisation": "all"}, "encoder.normalisation must be one of relation, entity, got 'all'"),
        ("rgcn basis", {"parts": 0}, "encoder.parts must be at least 1, got 0"),
        ("rgcn block", {"parts": 4}, "encoder.parts must divide the 6 numbers of an entity row .* got 4"),
        ("attention", {"heads": 4}, "encoder.heads must divide the 6 numbers of an entity row, got 4"),
    ],
)
def test_options_out_of_range_are_refused(kind: str, options: dict, message: str):
    make = partial(KINDS[kind], **LAYER | options)
    with pytest.raises(InputError, match=message):
        model_of(site_of(GRAPH), dim=6, scoring=distmult, encoder=EncoderChoice(make, GRAPH.train))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(InputError, match=r"discriminator.max_norm must be null with an encoder, got 1.0"):
        encoded("linear", GRAPH, max_norm=1.0)
    with pytest.raises(InputError, match=r"encoder=compgcn .* but RotatE has 6 numbers for an entity and 3 for"):
        encoded("compgcn sub", GRAPH, scoring=RotatE)
    encoded("attention", GRAPH, scoring=RotatE)
