"""Draws from the softmax of a pool's scores, and gradients of the expected reward by the scores.

Callers have checked the shapes.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64, Int64
from torch import Tensor

_DRAWS = 16
"""Draws that a program handles at a time."""


@triton.jit
@no_type_check
def _draw(
    logits, uniform, candidate, log_prob, pick, entity, drawn, pool, draws, sharing, M: tl.constexpr, D: tl.constexpr
):
    r = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, M)
    inside = m < pool
    logit = tl.load(logits + r * pool + m, mask=inside, other=-float("inf"))
    above = logit - tl.max(logit, 0)
    share = tl.where(inside, tl.exp(above), 0.0)
    cumulative = tl.cumsum(share.to(tl.float64), 0)
    total = tl.max(cumulative, 0)
    rest = tl.log(total).to(above.dtype)
    tl.store(log_prob + r * pool + m, above - rest, mask=inside)
    for start in range(0, draws, D):
        d = start + tl.arange(0, D)
        at = tl.load(uniform + r * draws + d, mask=d < draws, other=0.0) * total
        below = tl.sum(((cumulative[None, :] < at[:, None]) & inside[None, :]).to(tl.int64), 1)
        # Rounding could lead beyond the last candidate.
        below = tl.minimum(below, pool - 1)
        place = r * draws + d
        tl.store(pick + place, below, mask=d < draws)
        tl.store(entity + place, tl.load(candidate + r // sharing * pool + below, mask=d < draws), mask=d < draws)
        chosen = tl.where(m[None, :] == below[:, None], (above - rest)[None, :], -float("inf"))
        tl.store(drawn + place, tl.max(chosen, 1), mask=d < draws)


@triton.jit
@no_type_check
def _sampled(log_prob, pick, advantage, weight, out, pool, draws, M: tl.constexpr, D: tl.constexpr):
    r = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, M)
    inside = m < pool
    share = tl.exp(tl.load(log_prob + r * pool + m, mask=inside, other=-float("inf")))
    total = tl.zeros_like(share)
    for start in range(0, draws, D):
        d = start + tl.arange(0, D)
        gain = tl.load(advantage + r * draws + d, mask=d < draws, other=0.0)
        drawn = tl.load(pick + r * draws + d, mask=d < draws, other=-1)
        hit = tl.where(drawn[:, None] == m[None, :], 1.0, 0.0) - share[None, :]
        total += tl.sum(gain[:, None] * hit, 0)
    tl.store(out + r * pool + m, tl.load(weight + r) * total, mask=inside)


@triton.jit
@no_type_check
def _exact(log_prob, reward, weight, out, pool, M: tl.constexpr):
    r = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, M)
    inside = m < pool
    share = tl.exp(tl.load(log_prob + r * pool + m, mask=inside, other=-float("inf")))
    gain = tl.load(reward + r * pool + m, mask=inside, other=0.0)
    tl.store(out + r * pool + m, tl.load(weight + r) * share * (gain - tl.sum(share * gain, 0)), mask=inside)


def draw(
    logits: Float[Tensor, "B M"], uniform: Float64[Tensor, "B N"], pool: Int64[Tensor, "C M"]
) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B N"], Int64[Tensor, "B N"], Float[Tensor, "B N"]]:
    """As `kernels.draws.draw_from`, with its results in the same order."""
    logits = logits.contiguous()
    log_prob, pick = torch.empty_like(logits), torch.empty_like(uniform, dtype=torch.int64)
    entity, drawn = torch.empty_like(pick), torch.empty_like(uniform, dtype=logits.dtype)
    if logits.numel():
        sizes = logits.shape[1], uniform.shape[1], len(logits) // len(pool)
        given = logits, uniform.contiguous(), pool.contiguous(), log_prob, pick, entity, drawn
        _draw[(len(logits),)](*given, *sizes, M=_whole(logits), D=_DRAWS)
    return log_prob, pick, entity, drawn


def sampled_policy_gradient(
    log_prob: Float[Tensor, "B M"],
    pick: Int64[Tensor, "B N"],
    advantage: Float[Tensor, "B N"],
    weight: Float[Tensor, " B"],
) -> Float[Tensor, "B M"]:
    """REINFORCE: the gradient by logits of weight * sum over draws of advantage * log_prob[pick], for each row."""
    out = torch.empty_like(log_prob)
    if out.numel():
        sizes = log_prob.shape[1], pick.shape[1]
        given = log_prob, pick, advantage.contiguous(), weight, out
        _sampled[(len(out),)](*given, *sizes, M=_whole(log_prob), D=_DRAWS)
    return out


def exact_policy_gradient(
    log_prob: Float[Tensor, "B M"], reward: Float[Tensor, "B M"], weight: Float[Tensor, " B"]
) -> Float[Tensor, "B M"]:
    """The gradient by the logits of weight * expected reward over the pool, for each row."""
    out = torch.empty_like(log_prob)
    if out.numel():
        _exact[(len(out),)](log_prob, reward.contiguous(), weight, out, out.shape[1], M=_whole(log_prob))
    return out


def _whole(pool: Tensor) -> int:
    return triton.next_power_of_2(pool.shape[1])
