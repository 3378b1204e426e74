from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from generator.typed import TypedSampler
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, no_opinion

NUM = families().num_entities
OPTIONS: dict[str, Any] = {"num_negatives": 20_000, "uniform_share": 0.3, "mask_known": False, "redraw_known": False}


def sampler_of(**options: Any) -> TypedSampler:
    return TypedSampler(context_of(families()), **(OPTIONS | options))


def seen(relation: int, place: int) -> set[int]:
    """The entities of a relation's heads (0) or tails (2)."""
    return {triple[place] for triple in families().train.tolist() if triple[1] == relation}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_draws_are_uniform_over_what_train_has_in_that_place(share: float):
    batch = batch_of(families().train[::500], heads=2)
    negatives = sampler_of(uniform_share=share).propose(batch, no_opinion)
    assert negatives.proposal is not None
    for row, relation in enumerate(batch.relation.tolist()):
        pool = list(seen(relation, 0 if row < 2 else 2))
        probability = torch.full((NUM,), share / NUM, dtype=torch.float64)
        probability[pool] += (1 - share) / len(pool)
        some = probability > 0
        count = torch.bincount(negatives.entity[row], minlength=NUM)
        assert not count[~some].any()
        assert chisquare(count[some].numpy(), 20_000 * probability[some].numpy()).pvalue > 1e-3
        assert torch.allclose(negatives.proposal.negative[row].exp(), probability[negatives.entity[row]])
        assert float(negatives.proposal.target[row].exp()) == pytest.approx(float(probability[batch.target[row]]))


def test_probabilities_of_all_entities_sum_to_one():
    batch = batch_of(families().train[:40], heads=5, chunk_size=4)
    log_q = sampler_of().log_q(batch, torch.arange(NUM).expand(10, -1))
    assert log_q is not None
    assert torch.allclose(log_q.exp().sum(1), torch.ones(40, dtype=torch.float64))


def test_train_facts_are_drawn_again_also_in_chunks():
    batch = batch_of(families().train[:40], heads=5, chunk_size=4)
    options = {"num_negatives": 50, "uniform_share": 0.0}
    before = sampler_of(mask_known=True, **options).propose(batch, no_opinion)
    negatives = sampler_of(redraw_known=True, **options).propose(batch, no_opinion)
    assert before.known is not None
    assert negatives.known is not None
    assert before.known.any()
    answers = context_of(families()).known.contains(batch, torch.arange(NUM).expand(10, -1))
    for row, relation in enumerate(batch.relation.tolist()):
        pool = seen(relation, 0 if row < 20 else 2)
        unknown = pool - set(answers[row].nonzero()[:, 0].tolist())
        assert set(negatives.entity[row][~negatives.known[row]].tolist()) <= unknown
        assert set(negatives.entity[row].tolist()) <= pool
        assert not negatives.known[row].any() or len(unknown) < len(pool) / 2


def test_a_share_beyond_one_is_an_error():
    with pytest.raises(InputError, match=r"generator.uniform_share must be from 0 to 1, got 1.5"):
        sampler_of(uniform_share=1.5)
