"""The states of nodes after a layer of NBFNet, and the scores of states; differentiable.

Parameters are float64 and are rounded to the type of states. Their gradients are summed in float64.
"""

from typing import cast

import torch
from jaxtyping import Float, Float64, Int32
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import layer_norm, pad

from embedding.scoring.dense import affine
from kernels.library import usable
from kernels.path_states import grow, grow_gradient, state_scores, state_scores_gradient


def grown(
    state: Float[Tensor, "n D"],
    message: Float[Tensor, "m D"],
    update: Float64[Tensor, "two_D D"],
    bias: Float64[Tensor, " D"],
) -> Float[Tensor, "m D"]:
    """The states of m nodes after a layer: state + relu(norm([state, message] @ update + bias)).

    Args:
        state: of the first n nodes; that of the others is 0.
    """
    if usable(state, message):
        return cast(Tensor, _Grow.apply(state, message, update, bias))
    old = pad(state, (0, 0, 0, len(message) - len(state)))
    made = affine(torch.cat([old, message], dim=1), update, bias)
    return old + layer_norm(made, message.shape[1:]).relu()


def scores_of(
    state: Float[Tensor, "n D"],
    query: Int32[Tensor, " n"],
    of_query: Float[Tensor, "q D"],
    of_state: Float64[Tensor, "D D"],
    to_score: Float64[Tensor, "D 1"],
) -> Float[Tensor, " n"]:
    """The scores of states: relu(state @ of_state + of_query[query]) @ to_score."""
    if usable(state, of_query):
        return cast(Tensor, _Scores.apply(state, of_query, of_state, to_score[:, 0], query))
    hidden = affine(state, of_state, None) + of_query[query.long()]
    return affine(hidden.relu(), to_score, None)[:, 0]


class _Grow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, state: Tensor, message: Tensor, update: Tensor, bias: Tensor) -> Tensor:
        rounded = (each.to(state.dtype).contiguous() for each in (update, bias))
        given = state.contiguous(), message.contiguous(), *rounded
        ctx.save_for_backward(*given)
        return grow(*given)

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor, ...]:
        state, message, update, bias = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return grow_gradient(state, message, update, bias, given[0].contiguous())


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, state: Tensor, of_query: Tensor, of_state: Tensor, to_score: Tensor, query: Tensor
    ) -> Tensor:
        rounded = (each.to(state.dtype).contiguous() for each in (of_query, of_state, to_score))
        given = state.contiguous(), query, *rounded
        ctx.save_for_backward(*given)
        return state_scores(*given)

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        state, query, *parameters = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        of_query, of_state, to_score = parameters
        by_state, *sums = state_scores_gradient(state, query, of_query, of_state, to_score, given[0].contiguous())
        by_query, by_of_state, by_to_score = sums
        return by_state, by_query.to(by_state.dtype), by_of_state, by_to_score, None
