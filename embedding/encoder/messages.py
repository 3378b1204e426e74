"""Sums of messages along edges, without a tensor of all messages: they are made in blocks, and again in backward."""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.encoder.edges import Edges

Message = Callable[[Tensor, Tensor], Tensor]
"""Makes the messages [n, M] of n edges from the rows of their sources [n, D] and of their relations [n, W]."""
_BLOCK_NUMBERS = 1 << 18
"""Numbers of messages that are made at a time, so few that they stay in the processor's cache."""


def sum_messages(
    edges: Edges,
    sources: Inexact[Tensor, "U D"],
    relations: Inexact[Tensor, "R_ W"],
    weight: Float[Tensor, "M H"],
    message: Message,
    *,
    into: Int64[Tensor, " M"],
    num_sums: int,
    width: int,
) -> Inexact[Tensor, "S width"]:
    """For each of `num_sums` sums, the sum of weighted messages that go into it; differentiable.

    Messages are added in the order of the edges. The gradient of relations, which the messages of many edges use, is
    summed in the type of `relations`: give them in float64.

    Args:
        sources: the rows of the distinct sources; real or complex.
        relations: the rows of the edges' relations; rounded to the type of `sources` when used.
        weight: H factors of each message, one for each of H equal parts of it.
        into: the sum that each edge's message is added to.
        width: numbers in a message.
    """
    given = (edges.source, edges.relation, into, num_sums, width, message)
    return cast(Tensor, _Sum.apply(sources, relations, weight, *given))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        sources: Tensor,
        relations: Tensor,
        weight: Tensor,
        source: Tensor,
        relation: Tensor,
        into: Tensor,
        num_sums: int,
        width: int,
        message: Message,
    ) -> Tensor:
        ctx.save_for_backward(sources, relations, weight, source, relation, into)
        ctx.chosen = message, width  # pyright: ignore[reportAttributeAccessIssue]
        total, rounded = sources.new_zeros((num_sums, width)), relations.to(sources.dtype)
        for edges in _blocks(len(source), width):
            made = message(sources.index_select(0, source[edges]), rounded.index_select(0, relation[edges]))
            total.index_add_(0, into[edges], _weighted(made, weight[edges]))
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        sources, relations, weight, source, relation, into = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        message, width = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        rounded = relations.to(sources.dtype)
        by_source, by_relation = torch.zeros_like(sources), torch.zeros_like(relations)
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[2] else None  # pyright: ignore[reportAttributeAccessIssue]
        for edges in _blocks(len(source), width):
            of_sum = given[0].index_select(0, into[edges])
            with torch.enable_grad():
                rows = sources.index_select(0, source[edges]).requires_grad_()
                of_relation = rounded.index_select(0, relation[edges]).requires_grad_()
                made = message(rows, of_relation)
            parts = torch.autograd.grad(made, (rows, of_relation), _weighted(of_sum, weight[edges]))
            by_source.index_add_(0, source[edges], parts[0])
            by_relation.index_add_(0, relation[edges], parts[1].to(relations.dtype))
            if by_weight is not None:
                by_weight[edges] = (of_sum * made.detach()).view(len(made), weight.shape[1], -1).sum(2)
        return by_source, by_relation, by_weight, *[None] * 6


def _blocks(count: int, width: int) -> list[slice]:
    size = max(1, _BLOCK_NUMBERS // max(1, width))
    return [slice(start, start + size) for start in range(0, count, size)]


def _weighted(message: Inexact[Tensor, "n M"], weight: Float[Tensor, "n H"]) -> Inexact[Tensor, "n M"]:
    """Each of the H equal parts of a message, multiplied by its factor."""
    if weight.shape[1] == 1:
        return message * weight
    return (message.view(len(message), weight.shape[1], -1) * weight[:, :, None]).view_as(message)
