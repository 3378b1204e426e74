"""Draws from the softmax of a pool's scores, and gradients of the expected reward by the scores (draws.cpp)."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kernels.gpu.available import is_on_gpu, usable_on_gpu
from kernels.library import call, type_name, usable
from kernels.shapes import expect_shape

_DIGITS = 52
"""Binary digits of a share as a whole number: their sum stays exact in float64."""


def draw(
    logits: Float[Tensor, "B M"], uniform: Float64[Tensor, "B N"]
) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B N"]]:
    """The log-softmax of each row, and N independent draws (positions in the row) from it by its cumulative sum."""
    expect_shape("uniform", uniform, len(logits), uniform.shape[1])
    if usable(logits):
        logits = logits.contiguous()
        log_prob, pick = torch.empty_like(logits), torch.empty(uniform.shape, dtype=torch.int64)
        given = logits, uniform.contiguous(), log_prob, pick
        call(f"draw_{type_name(logits)}", *given, *logits.shape, uniform.shape[1], torch.get_num_threads())
        return log_prob, pick
    log_prob = logits.log_softmax(1)
    cumulative = _cumulative(log_prob.double().exp())
    # Scaled by the last entry, so that rounding stays inside the row. nan scores do not; the trainer then stops.
    pick = torch.searchsorted(cumulative, uniform * cumulative[:, -1:]).clamp(max=logits.shape[1] - 1)
    return log_prob, pick


def _cumulative(share: Float64[Tensor, "B M"]) -> Float64[Tensor, "B M"]:
    """The cumulative sum of shares, which add up to 1. A GPU that must be repeatable sums them as whole numbers."""
    if is_on_gpu(share) and torch.are_deterministic_algorithms_enabled():
        return (share * 2.0**_DIGITS).long().cumsum(1).double() * 2.0**-_DIGITS
    return share.cumsum(1)


def draw_from(
    pool: Int64[Tensor, "C M"], logits: Float[Tensor, "B M"], uniform: Float64[Tensor, "B N"]
) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B N"], Int64[Tensor, "B N"], Float[Tensor, "B N"]]:
    """What `draw` returns, then the candidate of each draw and its log-probability.

    Args:
        pool: the candidates of each of C equal groups of consecutive rows.
    """
    if usable_on_gpu(logits):
        import kernels.gpu.draws as gpu

        expect_shape("uniform", uniform, len(logits), uniform.shape[1])
        return gpu.draw(logits, uniform, pool)
    log_prob, pick = draw(logits, uniform)
    return log_prob, pick, picked(pool, pick), log_prob.gather(1, pick)


def picked(pool: Int64[Tensor, "C M"], pick: Int64[Tensor, "B N"]) -> Int64[Tensor, "B N"]:
    """The candidates at columns `pick` of each row's pool."""
    if len(pool) == len(pick):
        return pool.gather(1, pick)
    chunk = torch.arange(len(pick), device=pick.device) // (len(pick) // max(len(pool), 1) or 1)
    return pool.take(pick + (chunk * pool.shape[1])[:, None])


def sampled_policy_gradient(
    log_prob: Float[Tensor, "B M"],
    pick: Int64[Tensor, "B N"],
    advantage: Float[Tensor, "B N"],
    weight: Float[Tensor, " B"],
) -> Float[Tensor, "B M"]:
    """REINFORCE: the gradient by logits of weight * sum over draws of advantage * log_prob[pick], for each row."""
    expect_shape("pick", pick, len(log_prob), pick.shape[1])
    expect_shape("advantage", advantage, *pick.shape)
    expect_shape("weight", weight, len(log_prob))
    if usable(log_prob):
        out = torch.empty_like(log_prob)
        given = log_prob, pick, advantage.contiguous(), weight, out
        name, draws = f"sampled_policy_gradient_{type_name(log_prob)}", pick.shape[1]
        call(name, *given, *log_prob.shape, draws, torch.get_num_threads())
        return out
    if usable_on_gpu(log_prob):
        import kernels.gpu.draws as gpu

        return gpu.sampled_policy_gradient(log_prob, pick, advantage, weight)
    gradient = -log_prob.exp() * advantage.sum(1, keepdim=True)
    return weight[:, None] * gradient.scatter_add_(1, pick, advantage)


def exact_policy_gradient(
    log_prob: Float[Tensor, "B M"], reward: Float[Tensor, "B M"], weight: Float[Tensor, " B"]
) -> Float[Tensor, "B M"]:
    """The gradient by the logits of weight * expected reward over the pool, for each row."""
    expect_shape("reward", reward, *log_prob.shape)
    expect_shape("weight", weight, len(log_prob))
    if usable(log_prob):
        out = torch.empty_like(log_prob)
        given = log_prob, reward.contiguous(), weight, out
        call(f"exact_policy_gradient_{type_name(log_prob)}", *given, *log_prob.shape, torch.get_num_threads())
        return out
    if usable_on_gpu(log_prob):
        import kernels.gpu.draws as gpu

        return gpu.exact_policy_gradient(log_prob, reward, weight)
    share = log_prob.exp()
    return weight[:, None] * share * (reward - (share * reward).sum(1, keepdim=True))
