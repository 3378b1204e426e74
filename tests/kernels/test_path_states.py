"""States after a layer of NBFNet and scores of states, with their gradients, against autograd of the formulas."""

import pytest
import torch
from torch.nn.functional import layer_norm, pad

from kernels.path_states import grow, grow_gradient, state_scores, state_scores_gradient
from tests.kernels.arrays import TOLERANCE, assert_close, both_types, integers, randn
from tests.pairwise import pairwise

SIZES = [(0, 0), (0, 5), (1, 1), (20, 45), (40, 40), (70, 100)]
"""Nodes that have a state before a layer, and after it: none, less than a block of rows, and several blocks."""
LAYER_TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
"""A row of two numbers that differ little is normalised with few digits."""


@pairwise(sizes=SIZES, width=[2, 5, 8, 32, 37], dtype=list(TOLERANCE))
def test_states_and_gradients_are_those_of_the_formula(sizes: tuple[int, int], width: int, dtype: torch.dtype):
    before, count = sizes
    given = randn(before, width, dtype=dtype), randn(count, width, dtype=dtype, seed=1)
    update, by_after = randn(2 * width, width, dtype=dtype, seed=2), randn(count, width, dtype=dtype, seed=3)
    bias = randn(width, dtype=dtype, seed=4)
    leaves = [each.double().requires_grad_() for each in (*given, update, bias)]
    old = pad(leaves[0], (0, 0, 0, count - before))
    expected = old + layer_norm(torch.cat([old, leaves[1]], dim=1) @ leaves[2] + leaves[3], (width,)).relu()
    gradients = torch.autograd.grad(expected, leaves, by_after.double())
    assert_close(grow(*given, update, bias), expected.detach(), LAYER_TOLERANCE[dtype])
    found = grow_gradient(*given, update, bias, by_after)
    assert found[2].dtype == found[3].dtype == torch.float64
    for mine, wanted in zip(found, gradients, strict=True):
        assert_close(mine, wanted, 10 * LAYER_TOLERANCE[dtype])


@pairwise(count=[0, 1, 45, 100], width=[1, 5, 8, 32, 37], dtype=list(TOLERANCE))
def test_scores_and_gradients_are_those_of_the_formula(count: int, width: int, dtype: torch.dtype):
    state, query = randn(count, width, dtype=dtype), integers(3, count, seed=1).int()
    parameters = (
        randn(4, width, dtype=dtype),
        randn(width, width, dtype=dtype, seed=2),
        randn(width, dtype=dtype, seed=3),
    )
    by_score = randn(count, dtype=dtype, seed=5)
    leaves = [each.double().requires_grad_() for each in (state, *parameters)]
    expected = (leaves[0] @ leaves[2] + leaves[1][query.long()]).relu() @ leaves[3]
    gradients = torch.autograd.grad(expected, leaves, by_score.double())
    assert_close(state_scores(state, query, *parameters), expected.detach())
    found = state_scores_gradient(state, query, *parameters, by_score)
    assert {each.dtype for each in found[1:]} == {torch.float64}
    assert not found[1][3].any()
    for mine, wanted in zip(found, gradients, strict=True):
        assert_close(mine, wanted, 3 * TOLERANCE[dtype])


@both_types
def test_a_node_gets_the_same_numbers_wherever_it_stands(dtype: torch.dtype):
    """Ranks have other nodes beside it."""
    state, message = randn(50, 37, dtype=dtype), randn(80, 37, dtype=dtype, seed=1)
    update, by_after = randn(74, 37, dtype=dtype, seed=2), randn(80, 37, dtype=dtype, seed=3)
    layer = update, randn(37, dtype=dtype, seed=6)
    after, back = grow(state, message, *layer), grow_gradient(state, message, *layer, by_after)
    part = slice(17, 50)
    assert grow(state[part], message[part], *layer).equal(after[part])
    for mine, whole in zip(grow_gradient(state[part], message[part], *layer, by_after[part])[:2], back, strict=False):
        assert mine.equal(whole[part])
    assert grow(state[:0], message[50:], *layer).equal(after[50:])
    query, square, given = integers(4, 80, seed=4).int(), update[:37], by_after[:, 0].contiguous()
    parameters = randn(4, 37, dtype=dtype, seed=5), square, square[0]
    scores = state_scores(after, query, *parameters)
    by_state = state_scores_gradient(after, query, *parameters, given)[0]
    assert state_scores(after[part], query[part], *parameters).equal(scores[part])
    assert state_scores_gradient(after[part], query[part], *parameters, given[part])[0].equal(by_state[part])


@pytest.mark.parametrize(("query", "range_"), [([2, -1], "-1 to 2"), ([0, 4], "0 to 4")])
def test_a_query_that_there_is_not_is_refused(query: list[int], range_: str):
    state, of_query, square = randn(2, 3), randn(4, 3), randn(3, 3)
    given = state, torch.tensor(query, dtype=torch.int32), of_query, square, square[0]
    message = rf"^queries must be in \[0, 4\), got {range_}$"
    with pytest.raises(IndexError, match=message):
        state_scores(*given)
    with pytest.raises(IndexError, match=message):
        state_scores_gradient(*given, state[:, 0].contiguous())
