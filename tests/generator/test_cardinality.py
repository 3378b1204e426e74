from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from generator.cardinality import CardinalitySampler
from graph.errors import InputError
from tests.worlds import context_of, graph_of, order_of

ONE_ONE, ONE_MANY, MANY_ONE, MANY_MANY, UNSEEN = range(5)
GRAPH = graph_of(
    [(each, ONE_ONE, 10 + each) for each in range(5)]
    + [(0, ONE_MANY, each) for each in range(1, 7)]
    + [(each, MANY_ONE, 0) for each in range(1, 7)]
    # Two tails a head, three heads a tail.
    + [(each, MANY_MANY, tail) for each in range(6) for tail in (each % 4 + 10, (each + 1) % 4 + 10)],
    num_entities=20,
    num_relations=5,
)
OPTIONS: dict[str, Any] = {"num_negatives": 4, "one_side_share": 1.0, "mask_known": False, "redraw_known": False}


def sampler_of(**options: Any) -> CardinalitySampler:
    return CardinalitySampler(context_of(GRAPH), **(OPTIONS | options))


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_the_one_side_is_corrupted(share: float):
    expected = [0.5, share, 1 - share, 2 / 5, 0.5]
    assert sampler_of(one_side_share=share).head_probability.tolist() == pytest.approx(expected)


def test_no_step_ever_corrupts_the_many_side():
    order = order_of(GRAPH, sampler_of(), batch_size=6)
    heads = torch.zeros(5, dtype=torch.int64)
    total = torch.zeros(5, dtype=torch.int64)
    for step in range(40 * order.steps_per_epoch):
        batch = order.batch(step)
        real = batch.weight > 0
        total += torch.bincount(batch.relation[real], minlength=5)
        heads += torch.bincount(batch.relation[: batch.head_rows][real[: batch.head_rows]], minlength=5)
    assert int(heads[ONE_MANY]) == int(total[ONE_MANY]) == 240
    assert int(heads[MANY_ONE]) == 0
    assert binomtest(int(heads[ONE_ONE]), int(total[ONE_ONE]), 0.5).pvalue > 1e-3


def test_a_share_beyond_one_is_an_error():
    with pytest.raises(InputError, match=r"generator.one_side_share must be from 0 to 1, got 1.5"):
        sampler_of(one_side_share=1.5)
