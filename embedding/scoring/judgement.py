"""Judging scores while they are made: the loss and its gradient in the same walk over the rows, where kernels can."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx

from embedding.lookup import Lookup
from embedding.scoring.candidates import Candidates
from kernels.contrast import can_contrast, contrast
from kernels.losses import OnePassLoss
from kernels.pairs import Comparison
from kernels.rows import GatheredGradient, PairGradient


@dataclass(frozen=True)
class Judgement:
    """What a loss takes beside the scores, known before they are."""

    loss: OnePassLoss
    known: Bool[Tensor, "B N"] | None
    """True where a negative is to be left out."""
    weight: Float64[Tensor, " B"]
    """The share of each query's loss in the global mean."""


@dataclass(frozen=True)
class Judged:
    """Scores, and with a `Judgement` the loss that they gave: the sum of weight times loss, differentiable."""

    positive: Float[Tensor, " B"]
    negative: Float[Tensor, "B N"]
    loss: Float64[Tensor, ""] | None = None
    """None if nothing could judge them on the way: then the scores have the gradient, and else the loss alone."""


def can_judge(kind: Comparison | None, queries: int, candidates: Candidates) -> bool:
    """Whether `judge` has a way for so many queries that are compared so."""
    shared = candidates.shared_by(queries) and candidates.place.numel() > 0
    return kind is not None and shared and can_contrast(kind, candidates.lookup.rows)


def judge(
    kind: Comparison, query: Float[Tensor, "B E"], target: Candidates, candidates: Candidates, judgement: Judgement
) -> Judged:
    """Compares queries with their targets and with the candidates of their chunk, and judges the scores."""
    lookup, place = candidates.lookup, candidates.place.contiguous()
    given = query.contiguous(), kind, lookup, target.place.flatten(), place, judgement
    return Judged(*cast(tuple[Tensor, Tensor, Tensor], _Judge.apply(lookup.handle, *given)))


class _Judge(torch.autograd.Function):
    """All gradients are made in forward, when the scores are at hand; backward hands them on."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        handle: Tensor,
        query: Tensor,
        kind: Comparison,
        lookup: Lookup,
        target: Int64[Tensor, " B"],
        place: Int64[Tensor, "C N"],
        judgement: Judgement,
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, known = judgement.loss, judgement.known
        mask, weight = None if known is None else known.contiguous(), judgement.weight.to(query.dtype)
        options = loss.kind, float(loss.margin), float(loss.temperature)
        made = contrast(kind, *options, query, lookup.rows, place, target, mask, weight)
        ctx.made = made  # pyright: ignore[reportAttributeAccessIssue]
        ctx.of = query, kind, lookup, target, place  # pyright: ignore[reportAttributeAccessIssue]
        ctx.mark_non_differentiable(made.positive, made.negative)
        return made.positive, made.negative, torch.dot(made.loss.double(), judgement.weight)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        made = ctx.made  # pyright: ignore[reportAttributeAccessIssue]
        query, kind, lookup, target, place = ctx.of  # pyright: ignore[reportAttributeAccessIssue]
        slope = float(gradient[2])
        parts = made.by_candidate, made.by_positive, made.by_query
        if slope != 1:
            parts = tuple(part * slope for part in parts)
        by_candidate, by_positive, by_query = parts
        pieces = by_candidate.shape[1]
        places = place if pieces == 1 else place[:, None].expand(-1, pieces, -1)
        lookup.add(GatheredGradient(places.flatten(), by_candidate.view(-1, query.shape[1])))
        positive = by_positive[:, None], made.positive[:, None], query
        lookup.add(PairGradient(target[:, None], kind, *positive))
        return lookup.handle.new_zeros(0), by_query, None, None, None, None, None
