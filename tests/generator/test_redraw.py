import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import generator.redraw
from generator.redraw import draw_unknown
from generator.uniform import UniformSampler
from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples
from tests.worlds import batch_of, context_of, graph_of, no_opinion

# Of 12 tails, 5 are known for head 0, all for head 1, and 1 for head 2.
GRAPH = graph_of(
    [(0, 0, tail) for tail in range(5)] + [(1, 0, tail) for tail in range(12)] + [(2, 0, 7)],
    num_entities=12,
    num_relations=1,
)
CONTEXT = context_of(GRAPH)
BATCH = batch_of(GRAPH.train)
OF_HEAD = [0] * 5 + [1] * 12 + [2]


def redrawn(num_negatives: int, batch: Batch = BATCH) -> tuple[Tensor, Tensor]:
    sampler = UniformSampler(CONTEXT, num_negatives=num_negatives, mask_known=False, redraw_known=True)
    negatives = sampler.propose(batch, no_opinion)
    assert negatives.known is not None
    assert negatives.proposal is None
    return negatives.entity, negatives.known


def test_uniform_over_what_is_unknown():
    entity, known = redrawn(4000)
    for head, unknown in ((0, range(5, 12)), (2, [each for each in range(12) if each != 7])):
        row = OF_HEAD.index(head)
        assert not known[row].any()
        count = torch.bincount(entity[row], minlength=12)
        assert int(count[list(unknown)].sum()) == 4000
        assert chisquare(count[list(unknown)].numpy()).pvalue > 1e-3


def test_what_has_only_known_answers_is_masked():
    _, known = redrawn(50)
    assert known[OF_HEAD.index(1)].all()


def test_draws_that_were_unknown_stay():
    entity, _ = redrawn(200)
    first = BATCH.integers("negatives", 200, 12)
    was_unknown = ~CONTEXT.known.contains(BATCH, first)
    assert entity[was_unknown].equal(first[was_unknown])
    assert not entity.equal(first)


def test_rounds_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generator.redraw, "_ROUNDS", 1)
    entity, known = redrawn(4000)
    # Known twice, with chance 25 / 144.
    share = float(known[0].double().mean())
    assert abs(share - 25 / 144) < 0.03
    assert known.equal(CONTEXT.known.contains(BATCH, entity))


def test_negatives_of_each_positives_own_may_come_in_chunks():
    batch = batch_of(GRAPH.train, chunk_size=6)

    def draw(batch: Batch, purpose: str) -> Tensor:
        return batch.integers_per_positive(purpose, 40, 12)

    entity, known = draw_unknown(CONTEXT.known, batch, draw, "negatives")
    facts = KnownTriples.of(GRAPH.train, 12, 1).contains(batch, entity)
    assert known.equal(facts)
    assert known.any(1).tolist() == [head == 1 for head in OF_HEAD]


def test_shared_negatives_are_an_error():
    with pytest.raises(
        InputError,
        match=r"generator.redraw_known .* trainer.chunk_size is 6: set it to 1, or generator.redraw_known to",
    ):
        redrawn(4, batch_of(GRAPH.train, chunk_size=6))
