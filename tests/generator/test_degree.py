from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from generator.degree import DegreeSampler
from graph.errors import InputError
from tests.worlds import batch_of, context_of, families, graph_of, no_opinion

GRAPH = graph_of([(0, 0, each) for each in range(1, 6)] + [(1, 1, 2), (2, 1, 2)], num_entities=8, num_relations=2)
DEGREE = [5, 2, 4, 1, 1, 1, 0, 0]
OPTIONS: dict[str, Any] = {"num_negatives": 20_000, "power": 0.75, "mask_known": False, "redraw_known": False}


def sampler_of(**options: Any) -> DegreeSampler:
    return DegreeSampler(context_of(GRAPH), **(OPTIONS | options))


@pytest.mark.parametrize("power", [0.0, 0.75, 2.0])
def test_probability_is_a_power_of_the_degree(power: float):
    weight = torch.tensor(DEGREE, dtype=torch.float64) ** power
    probability = weight / weight.sum()
    batch = batch_of(GRAPH.train[:2], heads=1, chunk_size=1)
    negatives = sampler_of(power=power).propose(batch, no_opinion)
    some = probability > 0
    for row in range(2):
        count = torch.bincount(negatives.entity[row], minlength=8)
        assert not count[~some].any()
        assert chisquare(count[some].numpy(), 20_000 * probability[some].numpy()).pvalue > 1e-3
    assert negatives.proposal is not None
    assert torch.allclose(negatives.proposal.negative.exp(), probability[negatives.entity])
    assert torch.allclose(negatives.proposal.target.exp(), probability[batch.target])


def test_without_known_ones_the_others_keep_their_odds():
    batch = batch_of(GRAPH.train[:1])  # (0, r0, ?): all but 0 itself are known, or have no triples
    negatives = sampler_of(redraw_known=True).propose(batch, no_opinion)
    assert negatives.known is not None
    assert negatives.entity[~negatives.known].unique().tolist() == [0]
    batch = batch_of(GRAPH.train[:1], heads=1)  # (?, r0, 1), of which 0 alone is known
    negatives = sampler_of(redraw_known=True).propose(batch, no_opinion)
    weight = torch.tensor([0, *DEGREE[1:]], dtype=torch.float64) ** 0.75
    count = torch.bincount(negatives.entity[0], minlength=8)
    assert chisquare(count[1:6].numpy(), (20_000 * weight / weight.sum())[1:6].numpy()).pvalue > 1e-3


def test_shared_by_a_chunk():
    sampler = DegreeSampler(context_of(families()), **(OPTIONS | {"num_negatives": 7}))
    negatives = sampler.propose(batch_of(families().train[:12], chunk_size=4), no_opinion)
    assert negatives.entity.shape == (3, 7)
    assert negatives.proposal is not None
    assert negatives.proposal.negative.shape == (12, 7)


def test_a_negative_power_is_an_error():
    with pytest.raises(InputError, match=r"generator.power must be at least 0, got -1"):
        sampler_of(power=-1.0)
