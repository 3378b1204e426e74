"""Sums over functions of a row's scores, in float64, and the gradients by scores: one pass each (score_sums.cpp)."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import softplus

from kernels.library import call, type_name, usable
from kernels.shapes import expect_shape


def log_sum_exp(score: Float[Tensor, "Q n"]) -> Float64[Tensor, " Q"]:
    """log sum_i exp score_qi of each row; minus infinity of a row without scores, or with none above minus infinity."""
    if not usable(score):
        return score.double().logsumexp(1)
    out = score.new_empty(len(score), dtype=torch.float64)
    call(f"log_sum_exp_{type_name(score)}", score.contiguous(), out, *score.shape, torch.get_num_threads())
    return out


def log_sum_exp_slope(
    score: Float[Tensor, "Q n"], log_sum: Float64[Tensor, " Q"], weight: Float64[Tensor, " Q"]
) -> Float[Tensor, "Q n"]:
    """weight_q exp(score_qi - log_sum_q): weight times the derivative of the log of the sum by each score."""
    if not usable(score):
        return (score - log_sum[:, None].to(score.dtype)).exp().mul_(weight[:, None])
    expect_shape("log_sum", log_sum, len(score))
    expect_shape("weight", weight, len(score))
    out = torch.empty_like(score, memory_format=torch.contiguous_format)
    given = score.contiguous(), log_sum.contiguous(), weight.contiguous(), out
    call(f"log_sum_exp_slope_{type_name(score)}", *given, *score.shape, torch.get_num_threads())
    return out


def sum_softplus(score: Float[Tensor, "Q n"], margin: float) -> Float64[Tensor, " Q"]:
    """sum_i log(1 + exp(margin + score_qi)) of each row."""
    if not usable(score):
        return softplus(margin + score).sum(1, dtype=torch.float64)
    out = score.new_empty(len(score), dtype=torch.float64)
    sizes = *score.shape, float(margin), torch.get_num_threads()
    call(f"sum_softplus_{type_name(score)}", score.contiguous(), out, *sizes)
    return out


def sum_softplus_slope(
    score: Float[Tensor, "Q n"], weight: Float64[Tensor, " Q"], margin: float
) -> Float[Tensor, "Q n"]:
    """weight_q sigmoid(margin + score_qi): weight times the derivative of the sum by each score."""
    if not usable(score):
        return (margin + score).sigmoid_().mul_(weight[:, None])
    expect_shape("weight", weight, len(score))
    out = torch.empty_like(score, memory_format=torch.contiguous_format)
    sizes = *score.shape, float(margin), torch.get_num_threads()
    call(f"sum_softplus_slope_{type_name(score)}", score.contiguous(), weight.contiguous(), out, *sizes)
    return out
