"""Losses of a pass each, against the formulas in float64, over the negatives that are not masked alone."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from kernels.losses import RowLoss, row_loss, row_loss_gradient
from tests.kernels.arrays import assert_close, both_types, on_threads, randn
from tests.pairwise import pairwise


@dataclass(frozen=True)
class Case:
    kind: RowLoss
    options: tuple[float, ...]
    plain: Callable[[Tensor, Tensor], Tensor]
    """The loss of one positive and its negatives."""

    def __str__(self) -> str:
        return f"{self.kind} {self.options}"


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    return torch.cat([positive[None], negative]).logsumexp(0) - positive


def self_adversarial(margin: float, temperature: float) -> Case:
    def plain(positive: Tensor, negative: Tensor) -> Tensor:
        weight = (temperature * negative.detach()).softmax(0)
        return softplus(-margin - positive) + (weight * softplus(margin + negative)).sum()

    return Case(RowLoss.SELF_ADVERSARIAL, (margin, temperature), plain)


CASES = [
    Case(RowLoss.SOFTMAX, (), softmax),
    *(self_adversarial(margin, temperature) for margin in (0.0, 9.0) for temperature in (0.0, 1.0, 3.0)),
]
every_loss = pytest.mark.parametrize("case", CASES, ids=str)
COUNTS = [1, 2, 7, 16, 50, 200]
TYPES = [torch.float64, torch.float32]


def mask_of(rows: int, negatives: int) -> Tensor:
    """Some negatives of most rows; none of one row in four, and all of another."""
    known = randn(rows, negatives, seed=9) > 0
    known[::4], known[1::4] = False, True
    return known


def compiled(case: Case, positive: Tensor, negative: Tensor, known: Tensor | None, gradient: Tensor) -> list[Tensor]:
    """Loss, gradient by positives, gradient by negatives."""
    loss, state = row_loss(case.kind, positive, negative, known, case.options)
    return [loss, *row_loss_gradient(case.kind, positive, negative, known, state, gradient, case.options)]


def plain(case: Case, positive: Tensor, negative: Tensor, known: Tensor | None, gradient: Tensor) -> list[Tensor]:
    p, n = positive.double().requires_grad_(), negative.double().requires_grad_()
    kept = torch.ones(n.shape, dtype=torch.bool) if known is None else ~known
    rows = [case.plain(p[row], n[row][kept[row]]) for row in range(len(p))]
    loss = torch.stack(rows) if rows else p * 1
    by = torch.autograd.grad(loss, (p, n), gradient.double(), allow_unused=True)
    return [loss.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip((p, n), by, strict=True))]


def assert_plain(
    case: Case, positive: Tensor, negative: Tensor, known: Tensor | None, tolerance: float | None = None
) -> list[Tensor]:
    gradient = randn(len(positive), dtype=positive.dtype, seed=8)
    found = compiled(case, positive, negative, known, gradient)
    for mine, theirs in zip(found, plain(case, positive, negative, known, gradient), strict=True):
        assert mine.dtype == positive.dtype
        assert_close(mine, theirs, tolerance)
    return found


@pairwise(case=CASES, negatives=COUNTS, dtype=TYPES, masked=[False, True])
def test_value_and_gradient_are_those_of_the_formula(case: Case, negatives: int, dtype: torch.dtype, masked: bool):
    for rows in (0, 1, 9):
        positive, negative = 3 * randn(rows, dtype=dtype, seed=1), 3 * randn(rows, negatives, dtype=dtype, seed=2)
        assert_plain(case, positive, negative, mask_of(rows, negatives) if masked else None)


@every_loss
@both_types
def test_no_negatives_are_as_good_as_masked_ones(case: Case, dtype: torch.dtype):
    assert_plain(case, randn(3, dtype=dtype), randn(3, 0, dtype=dtype), None)


@pairwise(case=CASES, negatives=COUNTS, dtype=TYPES)
def test_what_is_under_a_mask_does_not_count(case: Case, negatives: int, dtype: torch.dtype):
    positive, negative = randn(9, dtype=dtype, seed=1), randn(9, negatives, dtype=dtype, seed=2)
    known = mask_of(9, negatives)
    gradient = randn(9, dtype=dtype, seed=8)
    before = compiled(case, positive, negative, known, gradient)
    assert (before[2][known] == 0).all()
    for hidden in (torch.inf, -torch.inf, torch.nan, 1e30):
        after = compiled(case, positive, negative.masked_fill(known, hidden), known, gradient)
        assert all(first.equal(second) for first, second in zip(before, after, strict=True))


@every_loss
@both_types
@pytest.mark.parametrize("size", [80.0, 300.0, 30_000.0])
def test_large_scores_do_not_overflow(case: Case, dtype: torch.dtype, size: float):
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, 1], [-1, -1, -1], [1, 1, -1], [-1, -1, 1]])
    scores = (size * signs.double() + randn(6, 3)).to(dtype)
    tolerance = 2 * size * torch.finfo(dtype).eps  # a loss is a difference of such scores
    for known in (None, torch.tensor([[False, True]]).repeat(6, 1)):
        found = assert_plain(case, scores[:, 0].contiguous(), scores[:, 1:].contiguous(), known, tolerance)
        assert all(each.isfinite().all() for each in found)


@every_loss
@both_types
def test_an_impossible_negative_counts_for_nothing(case: Case, dtype: torch.dtype):
    if case.options[1:] == (0.0,):  # weights that do not depend on scores
        return
    positive, negative = randn(4, dtype=dtype, seed=1), randn(4, 21, dtype=dtype, seed=2)
    gradient = torch.ones(4, dtype=dtype)
    without = compiled(case, positive, negative[:, 1:].contiguous(), None, gradient)
    negative[:, 0] = -torch.inf
    found = compiled(case, positive, negative, None, gradient)
    assert_close(found[0], without[0])
    assert_close(found[1], without[1])
    assert_close(found[2][:, 1:], without[2])
    assert (found[2][:, 0] == 0).all()


@pairwise(case=CASES, dtype=TYPES, masked=[False, True], negatives=[1, 16, 21])
def test_a_nan_score_gives_a_nan_loss(case: Case, dtype: torch.dtype, masked: bool, negatives: int):
    known = torch.zeros(3, negatives, dtype=torch.bool) if masked else None
    bits, quiet = (torch.int32, 0x7FC00000) if dtype == torch.float32 else (torch.int64, 0x7FF8 << 48)
    for payload in (0, 1, 255, 256, 12345):  # what else the bits of a nan may hold
        nan = torch.tensor(quiet + payload, dtype=bits).view(dtype)
        assert nan.isnan()
        for sign in (1, -1):
            for place in {0, negatives // 2, negatives - 1}:
                positive, negative = randn(3, dtype=dtype, seed=1), randn(3, negatives, dtype=dtype, seed=2)
                negative[1, place] = sign * nan
                loss, _ = row_loss(case.kind, positive, negative, known, case.options)
                assert loss.isnan().tolist() == [False, True, False]
            positive, negative = randn(3, dtype=dtype, seed=1), randn(3, negatives, dtype=dtype, seed=2)
            positive[1] = sign * nan
            loss, _ = row_loss(case.kind, positive, negative, known, case.options)
            assert loss.isnan().tolist() == [False, True, False]


@every_loss
@both_types
def test_nothing_depends_on_the_number_of_threads_or_the_other_rows(case: Case, dtype: torch.dtype):
    positive, negative, gradient = (randn(*shape, dtype=dtype) for shape in [(30,), (30, 21), (30,)])
    known = mask_of(30, 21)
    one, two = (on_threads(n, compiled, case, positive, negative, known, gradient) for n in (1, 2))
    alone = compiled(case, positive[7:8], negative[7:8], known[7:8], gradient[7:8])
    for first, second, third in zip(one, two, alone, strict=True):
        assert first.equal(second)
        assert first[7:8].equal(third)
