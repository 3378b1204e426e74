import pytest
import torch
from scipy.stats import binomtest, chisquare

from generator.bernoulli import BernoulliSampler
from generator.sampler import NegativeSampler
from generator.uniform import UniformSampler
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, graph_of, no_opinion, order_of

FEW_TAILS = 0  # three tails a head
FEW_HEADS = 1  # four heads a tail
GRAPH = graph_of(
    [(head, FEW_TAILS, 5 + 3 * head + i) for head in range(5) for i in range(3)]
    + [(5 + 4 * tail + i, FEW_HEADS, tail) for tail in range(3) for i in range(4)],
    num_entities=20,
    num_relations=2,
)


def head_shares(sampler: NegativeSampler, epochs: int) -> dict[int, tuple[int, int]]:
    """For each relation, how many positives had their head corrupted, of how many."""
    order = order_of(GRAPH, sampler, batch_size=6)
    counts = dict.fromkeys((FEW_TAILS, FEW_HEADS), (0, 0))
    for step in range(epochs * order.steps_per_epoch):
        batch = order.batch(step)
        for row, relation in enumerate(batch.relation.tolist()):
            if batch.weight[row] > 0:
                heads, total = counts[relation]
                counts[relation] = heads + (row < batch.head_rows), total + 1
    return counts


def test_every_entity_is_equally_likely():
    sampler = UniformSampler(context_of(GRAPH), num_negatives=64, mask_known=False, redraw_known=False)
    entity = sampler.propose(batch_of(GRAPH.train.repeat(20, 1), heads=30), no_opinion).entity
    assert chisquare(torch.bincount(entity.flatten(), minlength=20).numpy()).pvalue > 1e-3


def test_positives_of_a_batch_have_independent_negatives():
    sampler = UniformSampler(context_of(GRAPH), num_negatives=16, mask_known=False, redraw_known=False)
    entity = sampler.propose(batch_of(GRAPH.train[:10].repeat(50, 1)), no_opinion).entity
    # Each pair of slots of each row: equal with chance 1 / 20.
    equal = int((entity[:, :-1] == entity[:, 1:]).sum() + (entity[:-1] == entity[1:]).sum())
    assert binomtest(equal, entity[:, 1:].numel() + entity[1:].numel(), 1 / 20).pvalue > 1e-3


def test_uniform_corrupts_both_sides_alike():
    sampler = UniformSampler(context_of(GRAPH), num_negatives=1, mask_known=False, redraw_known=False)
    shares = head_shares(sampler, epochs=100)
    for heads, total in shares.values():
        assert binomtest(heads, total, 0.5).pvalue > 1e-3


def test_bernoulli_corrupts_the_side_with_fewer_answers():
    sampler = BernoulliSampler(context_of(GRAPH), num_negatives=1, mask_known=False, redraw_known=False)
    shares = head_shares(sampler, epochs=100)
    for relation, probability in ((FEW_TAILS, 3 / 4), (FEW_HEADS, 1 / 5)):
        assert float(sampler.head_probability[relation]) == pytest.approx(probability)
        heads, total = shares[relation]
        assert binomtest(heads, total, probability).pvalue > 1e-3


def test_bernoulli_proposes_fewer_true_facts():
    def share(sampler: NegativeSampler) -> float:
        order = order_of(families(), sampler, batch_size=2048)
        batch = order.batch(0)
        known = sampler.propose(batch, no_opinion).known
        assert known is not None
        return float(known[batch.weight > 0].double().mean())

    options = {"num_negatives": 64, "mask_known": True, "redraw_known": False}
    shares = [share(make(context_of(families()), **options)) for make in (UniformSampler, BernoulliSampler)]
    assert shares[1] < 0.8 * shares[0]


@pytest.mark.parametrize("make", [UniformSampler, BernoulliSampler])
def test_no_negatives_is_an_error(make: type[UniformSampler]):
    with pytest.raises(InputError, match=r"generator.num_negatives must be at least 1, got 0"):
        make(context_of(GRAPH), num_negatives=0, mask_known=False, redraw_known=False)
