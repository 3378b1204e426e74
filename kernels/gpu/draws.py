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
def _draw(logits, uniform, log_prob, pick, pool, draws, M: tl.constexpr, D: tl.constexpr):
    r = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, M)
    inside = m < pool
    logit = tl.load(logits + r * pool + m, mask=inside, other=-float("inf"))
    above = logit - tl.max(logit, 0)
    share = tl.where(inside, tl.exp(above), 0.0)
    cumulative = tl.cumsum(share.to(tl.float64), 0)
    total = tl.max(cumulative, 0)
    tl.store(log_prob + r * pool + m, above - tl.log(total).to(above.dtype), mask=inside)
    for start in range(0, draws, D):
        d = start + tl.arange(0, D)
        at = tl.load(uniform + r * draws + d, mask=d < draws, other=0.0) * total
        below = tl.sum(((cumulative[None, :] < at[:, None]) & inside[None, :]).to(tl.int64), 1)
        # Rounding could lead beyond the last candidate.
        tl.store(pick + r * draws + d, tl.minimum(below, pool - 1), mask=d < draws)


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
    logits: Float[Tensor, "B M"], uniform: Float64[Tensor, "B N"]
) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B N"]]:
    """The log-softmax of each row, and N independent draws (positions in the row) from it by its cumulative sum."""
    logits = logits.contiguous()
    log_prob, pick = torch.empty_like(logits), torch.empty_like(uniform, dtype=torch.int64)
    if logits.numel():
        sizes = logits.shape[1], uniform.shape[1]
        _draw[(len(logits),)](logits, uniform.contiguous(), log_prob, pick, *sizes, M=_whole(logits), D=_DRAWS)
    return log_prob, pick


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
