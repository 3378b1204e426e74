"""The sum of messages along edges, differentiable; see `kernels.paths.send`."""

from typing import cast

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kernels.paths import Nodes, OutEdges, send, send_gradient


def sum_sent(
    edges: OutEdges,
    sources: Nodes,
    group: Int64[Tensor, " Q"],
    state: Float[Tensor, "n D"],
    weight: Float64[Tensor, "G R D"],
    first: Float[Tensor, "Q D"],
    count: int,
) -> Float[Tensor, "m D"]:
    """The same as `send`, plus the first state of each query's head.

    Args:
        weight: rounded to the type of states; its gradient is in float64.
        first: the first state of each query, added at its head; node q is the head of query q.
    """
    return cast(Tensor, _Sum.apply(state, weight, first, edges, sources, group, count))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        state: Tensor,
        weight: Tensor,
        first: Tensor,
        edges: OutEdges,
        sources: Nodes,
        group: Tensor,
        count: int,
    ) -> Tensor:
        rounded = weight.to(state.dtype)
        ctx.save_for_backward(state, rounded)
        ctx.chosen = edges, sources, group  # pyright: ignore[reportAttributeAccessIssue]
        total = send(edges, sources, group, state, rounded, count)
        total[: len(first)] += first
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        state, rounded = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        edges, sources, group = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        by_state, by_weight = send_gradient(edges, sources, group, state, rounded, given[0])
        return by_state, by_weight, given[0][: len(group)], None, None, None, None
