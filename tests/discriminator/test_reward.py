import importlib
import inspect
from dataclasses import replace

import pytest
import torch

from discriminator.reward import BandReward, RewardFunction, ScoreReward
from graph.batch import Negatives
from graph.errors import InputError
from tests.worlds import batch_of, families, model_of, player_of, site_of

NEGATIVE = torch.tensor([[-3.0, -1.0, -2.0], [0.5, 0.0, 9.0]])
REWARDS = [ScoreReward(), BandReward(first_margin=4.0, last_margin=1.0, steps=10)]


def test_no_reward_is_missing():
    module = importlib.import_module("discriminator.reward")
    found = {value for value in vars(module).values() if isinstance(value, type) and not inspect.isabstract(value)}
    assert {value for value in found if issubclass(value, RewardFunction)} == {type(reward) for reward in REWARDS}


@pytest.mark.parametrize("reward", REWARDS)
def test_below_the_band_a_more_plausible_negative_earns_more(reward: RewardFunction):
    earned = reward(torch.tensor([3.0, 14.0]), NEGATIVE, 0)
    assert earned.argsort(1).equal(NEGATIVE.argsort(1))


def test_a_band_reward_is_highest_a_margin_below_the_positive():
    reward = BandReward(first_margin=2.0, last_margin=2.0, steps=0)
    earned = reward(torch.tensor([0.0, 2.0]), NEGATIVE, 7)
    assert earned.equal(-torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.0, 9.0]]))


def test_the_margin_goes_from_first_to_last():
    reward = BandReward(first_margin=4.0, last_margin=1.0, steps=6)
    assert [reward.margin(step) for step in (0, 2, 6, 100)] == [4.0, 3.0, 1.0, 1.0]
    assert BandReward(first_margin=4.0, last_margin=1.0, steps=0).margin(0) == 1.0


def test_the_discriminator_tells_the_reward_its_step():
    class Step(RewardFunction):
        def __call__(self, positive: torch.Tensor, negative: torch.Tensor, step: int) -> torch.Tensor:
            return torch.full_like(negative, step)

    player = player_of(model_of(site_of(families())))
    player.reward = Step()
    batch = replace(batch_of(families().train[:2]), step=7)
    assert player.judge(batch, Negatives(torch.tensor([[1], [2]]))).reward.eq(7).all()


@pytest.mark.parametrize(("key", "value"), [("first_margin", -1.0), ("last_margin", -0.5), ("steps", -1)])
def test_negative_options_are_named(key: str, value: float):
    with pytest.raises(InputError, match=f"reward.{key} must be at least 0, got {value}"):
        BandReward(**({"first_margin": 1.0, "last_margin": 1.0, "steps": 0} | {key: value}))
