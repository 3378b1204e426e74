"""What every loss promises, whichever it is, beside the formula of each."""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import discriminator.loss
from discriminator.loss.log_sigmoid import LogSigmoid
from discriminator.loss.loss import Loss, Scores
from discriminator.loss.margin_ranking import MarginRanking
from discriminator.loss.self_adversarial import SelfAdversarial
from discriminator.loss.softmax import Softmax
from graph.errors import InputError


@dataclass(frozen=True)
class Case:
    name: str
    loss: Loss
    plain: Callable[[float, list[float]], float]
    """The loss of a positive and its negatives that are not masked, in plain Python."""
    weights: Callable[[list[float]], list[float]] | None = None
    """What the negatives weigh, where weights count as constants for the gradient."""


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def self_weights(temperature: float) -> Callable[[list[float]], list[float]]:
    def weights(negative: list[float]) -> list[float]:
        powers = [math.exp(temperature * score) for score in negative]
        return [power / sum(powers) for power in powers]

    return weights


def self_adversarial(margin: float, temperature: float) -> Case:
    weigh = self_weights(temperature)

    def plain(positive: float, negative: list[float]) -> float:
        pairs = zip(weigh(negative), negative, strict=True)
        return softplus(-margin - positive) + sum(weight * softplus(margin + score) for weight, score in pairs)

    return Case(f"self-adversarial {temperature}", SelfAdversarial(margin, temperature), plain, weigh)


CASES = [
    Case("margin", MarginRanking(1.5), lambda p, n: mean([max(0.0, 1.5 - p + score) for score in n])),
    Case(
        "log-sigmoid",
        LogSigmoid(2.0),
        lambda p, n: softplus(-2.0 - p) + mean([softplus(2.0 + score) for score in n]),
    ),
    self_adversarial(1.0, 0.7),
    self_adversarial(1.0, 0.0),
    Case(
        "softmax",
        Softmax(),
        lambda p, n: math.log(math.exp(p) + sum(math.exp(score) for score in n)) - p,
    ),
]
every_loss = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def scores(rows: int, negatives: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + negatives)
    positive = torch.randn(rows, dtype=torch.float64, generator=generator)
    negative = 2 * torch.randn(rows, negatives, dtype=torch.float64, generator=generator)
    return positive.requires_grad_(), negative.requires_grad_()


def gradient(loss: Loss, positive: Tensor, negative: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    value = loss(Scores(positive, negative, known))
    return value.detach(), *torch.autograd.grad(value.sum(), (positive, negative))


def test_no_loss_is_missing():
    modules = [
        importlib.import_module(f"discriminator.loss.{module.name}")
        for module in pkgutil.iter_modules(discriminator.loss.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    losses = {value for value in found if issubclass(value, Loss) and value is not Loss}
    assert losses == {type(case.loss) for case in CASES}


@every_loss
@pytest.mark.parametrize("negatives", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_are_those_of_the_formula(case: Case, negatives: int, masked: bool):
    positive, negative = scores(6, negatives)
    known = (torch.arange(6 * negatives).view(6, negatives) % 3 == 0) if masked else None
    value, by_positive, by_negative = gradient(case.loss, positive, negative, known)
    step = 1e-6
    for row in range(6):
        kept = [j for j in range(negatives) if known is None or not known[row, j]]
        p, n = positive.tolist()[row], [negative.tolist()[row][j] for j in kept]
        assert float(value[row]) == pytest.approx(case.plain(p, n), abs=1e-12)
        slope = (case.plain(p + step, n) - case.plain(p - step, n)) / (2 * step)
        assert float(by_positive[row]) == pytest.approx(slope, abs=1e-7)
        for place, j in enumerate(kept):
            above, below = ([*n[:place], n[place] + sign * step, *n[place + 1 :]] for sign in (1, -1))
            slope = (case.plain(p, above) - case.plain(p, below)) / (2 * step)
            if case.weights is not None:
                slope = case.weights(n)[place] * torch.tensor(1.0 + n[place]).sigmoid().item()
            assert float(by_negative[row, j]) == pytest.approx(slope, abs=1e-6)
        for j in set(range(negatives)) - set(kept):
            assert float(by_negative[row, j]) == 0


@every_loss
@pytest.mark.parametrize("value", [1e4, -1e4, math.inf, -math.inf])
def test_a_masked_negative_has_no_effect(case: Case, value: float):
    positive, negative = scores(5, 4)
    known = torch.zeros(5, 4, dtype=torch.bool)
    known[:, 2] = True
    changed = negative.detach().clone()
    changed[:, 2] = value
    before = gradient(case.loss, positive, negative, known)
    after = gradient(case.loss, positive, changed.requires_grad_(), known)
    for first, second in zip(before, after, strict=True):
        assert first.equal(second)
    # And none of the weight either: the same as if it were not there.
    without = gradient(case.loss, positive, negative.detach()[:, [0, 1, 3]].requires_grad_(), None)
    assert torch.allclose(before[0], without[0])
    assert torch.allclose(before[2][:, [0, 1, 3]], without[2])


@every_loss
@pytest.mark.parametrize("fill", [0.0, math.inf])
def test_a_row_that_is_masked_whole_is_finite(case: Case, fill: float):
    positive, negative = scores(3, 4)
    known = torch.zeros(3, 4, dtype=torch.bool)
    known[1] = True
    negative = negative.detach().masked_fill(known, fill).requires_grad_()
    value, by_positive, by_negative = gradient(case.loss, positive, negative, known)
    assert float(value[1]) == pytest.approx(case.plain(positive.tolist()[1], []), abs=1e-12)
    assert by_positive.isfinite().all()
    assert (by_negative[1] == 0).all()
    assert value.isfinite().all()


@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_an_unmasked_nan_is_not_hidden(case: Case, masked: bool):
    positive, negative = scores(2, 3)
    known = torch.tensor([[True, False, False]] * 2) if masked else None
    negative = negative.detach().clone()
    negative[0, 1] = math.nan
    value = case.loss(Scores(positive, negative, known))
    assert value[0].isnan()
    assert value[1].isfinite()


@every_loss
def test_a_rank_without_positives_has_no_loss(case: Case):
    positive, negative = scores(0, 4)
    for known in (None, torch.zeros(0, 4, dtype=torch.bool)):
        value, by_positive, by_negative = gradient(case.loss, positive, negative, known)
        assert value.shape == by_positive.shape == (0,)
        assert by_negative.shape == (0, 4)


@every_loss
def test_descent_raises_positives_and_lowers_negatives(case: Case):
    positive, negative = scores(8, 4)
    first = case.loss(Scores(positive, negative))
    _, by_positive, by_negative = gradient(case.loss, positive, negative, None)
    assert (by_positive <= 0).all()
    assert (by_negative >= 0).all()
    assert (by_positive < 0).any()
    assert (by_negative > 0).any()
    last = case.loss(Scores(positive - 0.1 * by_positive, negative - 0.1 * by_negative))
    assert (last >= 0).all()
    assert last.sum().item() < first.sum().item()


@every_loss
def test_large_scores_do_not_overflow_float32(case: Case):
    positive = torch.tensor([200.0, -200.0], requires_grad=True)
    negative = torch.tensor([[-200.0], [200.0]], requires_grad=True)
    value, by_positive, by_negative = gradient(case.loss, positive, negative, None)
    assert value[0] < 1e-6
    assert 399 < value[1] < 405
    assert by_positive.isfinite().all()
    assert by_negative.isfinite().all()


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_a_margin_that_is_not_positive_is_an_error(margin: float):
    with pytest.raises(InputError, match=f"loss.margin must be positive, got {margin}"):
        MarginRanking(margin)


def test_a_negative_temperature_is_an_error():
    with pytest.raises(InputError, match=r"loss.temperature must be at least 0, got -0.5"):
        SelfAdversarial(1.0, -0.5)
