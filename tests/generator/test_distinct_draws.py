from itertools import combinations, permutations

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.distinct_draws import draw_distinct, policy_coefficients
from graph.counter_random import paired_uniform

LOG_PROB = torch.tensor([1.0, -0.5, 0.3, 2.0, -3.0], dtype=torch.float64).log_softmax(0)
REWARD = torch.tensor([0.5, -1.0, 2.0, 0.1, 4.0], dtype=torch.float64)


def uniform_of(rows: int, columns: int) -> Tensor:
    return paired_uniform(7, torch.arange(rows), columns)


def chance(order: tuple[int, ...]) -> float:
    """Of drawing these places in this order."""
    left = result = 1.0
    for place in order:
        result, left = result * float(LOG_PROB[place].exp()) / left, left - float(LOG_PROB[place].exp())
    return result


def test_draws_are_those_of_an_urn():
    place = draw_distinct(LOG_PROB.expand(20_000, -1), uniform_of(20_000, 5), 3)
    expected = [chance(order) for order in permutations(range(5), 3)]
    number = {order: index for index, order in enumerate(permutations(range(5), 3))}
    drawn = torch.bincount(torch.tensor([number[tuple(row)] for row in place.tolist()]), minlength=len(number))
    assert chisquare(drawn.numpy(), 20_000 * torch.tensor(expected).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_mean_gradient_is_that_of_the_expected_reward(count: int):
    place = torch.tensor(list(combinations(range(5), count)))
    share = torch.tensor([sum(chance(order) for order in permutations(each)) for each in place.tolist()])
    assert float(share.sum()) == pytest.approx(1)
    coefficient = policy_coefficients(LOG_PROB[place], REWARD[place])
    # By the logits: the gradient of log p of a place is one there, less the probabilities.
    probability = LOG_PROB.exp()
    found = torch.zeros(len(place), 5, dtype=torch.float64).scatter_(1, place, coefficient)
    found -= coefficient.sum(1, keepdim=True) * probability
    exact = probability * (REWARD - probability @ REWARD)
    assert torch.allclose((share[:, None] * found).sum(0), exact, atol=1e-7)


def test_coefficients_are_right_for_probabilities_of_every_size():
    log_prob = torch.tensor([0.0, -20.0, -25.0, -60.0, -400.0], dtype=torch.float64).log_softmax(0)
    found = policy_coefficients(log_prob[None], REWARD[None])[0]
    probability = log_prob.exp()
    assert torch.allclose(found, probability * (REWARD - probability @ REWARD), atol=1e-12)


@pytest.mark.parametrize("count", [2, 5, 16, 100])
def test_of_many_equal_places_each_draw_weighs_the_same_and_has_the_others_as_its_baseline(count: int):
    reward = torch.arange(float(count), dtype=torch.float64)
    found = policy_coefficients(torch.full((1, count), -20.0, dtype=torch.float64), reward[None])[0]
    assert torch.allclose(found, (reward - reward.mean()) / (count - 1), atol=1e-6)


def test_with_everything_drawn_it_is_the_exact_gradient():
    place = draw_distinct(LOG_PROB[None], uniform_of(1, 5), 5)
    coefficient = policy_coefficients(LOG_PROB[place], REWARD[place])
    found = torch.zeros(1, 5, dtype=torch.float64).scatter_(1, place, coefficient)[0]
    probability = LOG_PROB.exp()
    assert torch.allclose(found, probability * (REWARD - probability @ REWARD))


def test_what_is_impossible_is_drawn_last():
    log_prob = LOG_PROB.clone()
    log_prob[[0, 3]] = -torch.inf
    log_prob = log_prob.log_softmax(0)
    place = draw_distinct(log_prob.expand(50, -1), uniform_of(50, 5), 3)
    assert set(map(frozenset, place.tolist())) == {frozenset({1, 2, 4})}
    everything = draw_distinct(log_prob[None], uniform_of(1, 5), 5)
    assert set(everything[0, 3:].tolist()) == {0, 3}
    coefficient = policy_coefficients(log_prob[everything], REWARD[everything])
    assert coefficient.isfinite().all()
    assert coefficient[0, 3:].abs().max() < 1e-9
