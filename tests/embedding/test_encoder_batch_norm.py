"""Batch norm of encoders: over all entities in a step, by running statistics elsewhere.

Gradients are in test_encoders.py, ranks in test_encoder_ranks.py, a resumed run in tests/launch/test_encoders.py.
"""

import pytest
import torch
from torch import Tensor

from embedding.model import KGEModel
from tests.encoders import KINDS, encoded, plain_rows, small_graph
from tests.worlds import adam, batch_of, graph_of

GRAPH = small_graph()
FACTS = sorted({tuple(triple) for triple in GRAPH.train.tolist()})
BATCH = batch_of(torch.tensor(FACTS[2:6]), heads=2)


def made(model: KGEModel) -> tuple[Tensor, Tensor]:
    return model.entity.gather_all(model.entity.weight), model.scorer.relation.detach()


def running(model: KGEModel) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.dense_tensors().items() if "running" in key}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_takes_all_entities_and_ranking_running_statistics(kind: str):
    model, exact = encoded(kind, GRAPH, batch_norm=True), {"rtol": 1e-10, "atol": 1e-12}
    model.begin_step(BATCH)
    kept = FACTS[:2] + FACTS[6:]
    torch.testing.assert_close(made(model), plain_rows(kind, model, kept, in_step=True), **exact)
    model.end_step()
    model.encode()
    torch.testing.assert_close(made(model), plain_rows(kind, model, FACTS), **exact)


def test_running_statistics_are_those_of_torch():
    model = encoded("linear", GRAPH, layers=1, batch_norm=True)
    before = model.learned_rows.detach() @ model.dense_tensors()["encoder.weight.0"]
    theirs = torch.nn.BatchNorm1d(6, dtype=torch.float64)
    for _ in range(2):
        model.begin_step(BATCH)
        model.end_step()
        theirs(before)
    torch.testing.assert_close(model.dense_tensors()["encoder.norms.0.running_mean"], theirs.running_mean)
    torch.testing.assert_close(model.dense_tensors()["encoder.norms.0.running_variance"], theirs.running_var)


def test_running_statistics_move_with_the_optimiser_alone():
    model = encoded("compgcn mult", GRAPH, batch_norm=True)
    optimizer, before = adam(model), running(model)
    assert len(before) == 4
    for _ in range(2):
        model.begin_step(BATCH)
        model.encode()
    assert all(value.equal(before[key]) for key, value in running(model).items())
    model.begin_step(BATCH)
    model.score(BATCH, torch.tensor([[1]]).expand(4, 1))[0].sum().backward()
    optimizer.step()
    assert not any(value.equal(before[key]) for key, value in running(model).items())


def test_a_graph_of_one_entity_has_no_variance():
    model = encoded("linear", graph_of([(0, 0, 0)], 1, 1), batch_norm=True)
    before, rows = running(model), made(model)[0]
    model.begin_step(batch_of(torch.tensor([[0, 0, 0]])))
    assert rows.equal(made(model)[0])
    model.end_step()
    assert all(value.equal(before[key]) for key, value in running(model).items())
