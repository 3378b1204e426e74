"""Subsampling weights beside a count by hand, and where they go."""

from collections import Counter
from functools import partial

import pytest
import torch

from discriminator.loss.loss import Scores
from discriminator.loss.softmax import Softmax
from graph.batch import Negatives
from graph.sampling import PositiveOrder
from graph.subsampling import subsampling_weights
from tests.worlds import families, graph_of, model_of, player_of, site_of


def by_counting(triples: list[tuple[int, int, int]]) -> list[float]:
    """As in RotatE's code: each count starts at 3, so that a pair that occurs once counts 4."""
    of_head, of_tail = Counter((h, r) for h, r, _ in triples), Counter((r, t) for _, r, t in triples)
    return [(of_head[h, r] + 3 + of_tail[r, t] + 3) ** -0.5 for h, r, t in triples]


def test_weights_are_those_of_counting():
    triples = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 3), (0, 1, 3), (3, 0, 0)]
    found = subsampling_weights(graph_of(triples, 4, 2).known, *torch.tensor(triples).unbind(1))
    assert found.tolist() == pytest.approx([10**-0.5, 10**-0.5, 11**-0.5, 9**-0.5, 8**-0.5, 8**-0.5])
    assert found.tolist() == pytest.approx(by_counting(triples))


def test_weights_of_a_whole_graph_are_those_of_counting():
    graph = families()
    found = subsampling_weights(graph.known, *graph.train.long().unbind(1))
    assert found.tolist() == pytest.approx(by_counting(list(map(tuple, graph.train.tolist()))), rel=1e-12)
    assert found.max() > 1.5 * found.min()


@pytest.mark.parametrize(("chunk_size", "sides"), [(1, "one"), (4, "one"), (4, "both")])
def test_the_loss_is_the_mean_over_weights(chunk_size: int, sides: str):
    graph = families()
    weight = subsampling_weights(graph.known, *graph.train.long().unbind(1))
    half = torch.full((graph.num_relations,), 0.5, dtype=torch.float64)
    options = {"batch_size": 64, "chunk_size": chunk_size, "sides": sides, "seed": 3}
    order = PositiveOrder(graph.train, half, **options, weight=partial(subsampling_weights, graph.known))
    of_triple = dict(zip(map(tuple, graph.train.tolist()), weight.tolist(), strict=True))
    player = player_of(model_of(site_of(graph)), Softmax())
    seen = 0
    for step in range(order.steps_per_epoch):
        batch = order.batch(step)
        verdict = player.judge(batch, Negatives(batch.integers("negatives", 4, graph.num_entities)))
        each = Softmax()(Scores(verdict.positive, verdict.negative))
        triples = list(zip(batch.head.tolist(), batch.relation.tolist(), batch.tail.tolist(), strict=True))
        real = [i for i in range(len(triples)) if batch.weight[i] > 0]  # the others fill a chunk up
        weights = [of_triple[triples[i]] for i in real]
        expected = sum(w * float(each[i]) for w, i in zip(weights, real, strict=True)) / max(sum(weights), 1e-9)
        assert float(verdict.loss.detach()) == pytest.approx(expected, rel=1e-10)
        seen += len(real)
    assert seen == len(graph.train) * (2 if sides == "both" else 1)
