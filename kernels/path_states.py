"""The states of nodes after a layer of NBFNet, and the scores of states, with their gradients (path_states.cpp).

Gradients by parameters are sums in float64, so that they hardly depend on how queries are shared out over ranks.
"""

import torch
from jaxtyping import Float, Float64, Int32
from torch import Tensor

from kernels.library import call, type_name
from kernels.shapes import expect_shape


def grow(
    state: Float[Tensor, "n D"],
    message: Float[Tensor, "m D"],
    update: Float[Tensor, "two_D D"],
    bias: Float[Tensor, " D"],
) -> Float[Tensor, "m D"]:
    """The states of m nodes after a layer: state + relu(norm([state, message] @ update + bias)).

    norm gives the numbers of a row mean 0 and variance 1; 1e-5 is added to the variance before (Ba et al., Layer
    normalization, arXiv 1607.06450).

    Args:
        state: of the first n nodes; that of the others is 0.
    Raises:
        ValueError: shapes that do not fit each other; so do all functions here.
    """
    count, width = _expect_layer(state, message, update, bias)
    after = torch.empty_like(message)
    call(f"grow_{type_name(state)}", state, message, update, bias, after, len(state), count, width)
    return after


def grow_gradient(
    state: Float[Tensor, "n D"],
    message: Float[Tensor, "m D"],
    update: Float[Tensor, "two_D D"],
    bias: Float[Tensor, " D"],
    by_after: Float[Tensor, "m D"],
) -> tuple[Float[Tensor, "n D"], Float[Tensor, "m D"], Float64[Tensor, "two_D D"], Float64[Tensor, " D"]]:
    """The gradients of `grow` by state, message, update and bias, from that by its result."""
    count, width = _expect_layer(state, message, update, bias)
    expect_shape("by_after", by_after, count, width)
    by_state, by_message = torch.empty_like(state), torch.empty_like(message)
    by_update, by_bias = torch.empty(update.shape, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    given = state, message, update, bias, by_after, by_state, by_message, by_update, by_bias
    call(f"grow_gradient_{type_name(state)}", *given, len(state), count, width)
    return by_state, by_message, by_update, by_bias


def state_scores(
    state: Float[Tensor, "n D"],
    query: Int32[Tensor, " n"],
    of_query: Float[Tensor, "q D"],
    of_state: Float[Tensor, "D D"],
    to_score: Float[Tensor, " D"],
) -> Float[Tensor, " n"]:
    """The scores of states: relu(state @ of_state + of_query[query]) @ to_score.

    Raises:
        IndexError: a query is not in [0, q).
    """
    count, width = _expect_scores(state, query, of_query, of_state, to_score)
    score = state.new_empty(count)
    call(f"state_scores_{type_name(state)}", state, query, of_query, of_state, to_score, score, count, width)
    return score


def state_scores_gradient(
    state: Float[Tensor, "n D"],
    query: Int32[Tensor, " n"],
    of_query: Float[Tensor, "q D"],
    of_state: Float[Tensor, "D D"],
    to_score: Float[Tensor, " D"],
    by_score: Float[Tensor, " n"],
) -> tuple[Float[Tensor, "n D"], Float64[Tensor, "q D"], Float64[Tensor, "D D"], Float64[Tensor, " D"]]:
    """The gradients of `state_scores` by state, of_query, of_state and to_score, from that by its result.

    Raises:
        IndexError: a query is not in [0, q).
    """
    count, width = _expect_scores(state, query, of_query, of_state, to_score)
    expect_shape("by_score", by_score, count)
    by_state = torch.empty_like(state)
    sums = [torch.zeros(each.shape, dtype=torch.float64) for each in (of_query, of_state, to_score)]
    given = state, query, of_query, of_state, to_score, by_score, by_state, *sums
    call(f"state_scores_gradient_{type_name(state)}", *given, count, width)
    return by_state, sums[0], sums[1], sums[2]


def _expect_layer(state: Tensor, message: Tensor, update: Tensor, bias: Tensor) -> tuple[int, int]:
    """Raises ValueError for shapes by which a kernel would read beyond an array; returns nodes and width."""
    count, width = message.shape
    expect_shape("state", state, min(len(state), count), width)
    expect_shape("update", update, 2 * width, width)
    expect_shape("bias", bias, width)
    return count, width


def _expect_scores(
    state: Tensor, query: Tensor, of_query: Tensor, of_state: Tensor, to_score: Tensor
) -> tuple[int, int]:
    """The same for `state_scores`, whose queries must exist too."""
    count, width = state.shape
    expect_shape("query", query, count)
    expect_shape("of_query", of_query, len(of_query), width)
    expect_shape("of_state", of_state, width, width)
    expect_shape("to_score", to_score, width)
    if count:
        least, most = (int(each) for each in query.aminmax())
        if least < 0 or most >= len(of_query):
            raise IndexError(f"queries must be in [0, {len(of_query)}), got {least} to {most}")
    return count, width
