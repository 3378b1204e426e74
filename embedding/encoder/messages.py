"""Sums of messages along edges, as a differentiable operation."""

from typing import cast

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.encoder.edges import Edges
from kernels import messages
from kernels.messages import Message, MessageEdges


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
    along = MessageEdges(edges.source, edges.relation, into, num_sums, width)
    return cast(Tensor, _Sum.apply(sources, relations, weight, along, message))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, sources: Tensor, relations: Tensor, weight: Tensor, edges: MessageEdges, message: Message
    ) -> Tensor:
        ctx.save_for_backward(sources, relations, weight)
        ctx.chosen = edges, message  # pyright: ignore[reportAttributeAccessIssue]
        return messages.sum_messages(message, edges, sources, relations, weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *given: Tensor) -> tuple[Tensor | None, ...]:
        sources, relations, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        edges, message = ctx.chosen  # pyright: ignore[reportAttributeAccessIssue]
        by_weight = ctx.needs_input_grad[2]  # pyright: ignore[reportAttributeAccessIssue]
        made = messages.message_gradients(message, edges, sources, relations, weight, given[0], by_weight=by_weight)
        return *made, None, None
