"""How often a stage is validated and logged."""

from typing import Any

import pytest

from generator.uniform import UniformSampler
from tests.worlds import context_of, families, model_of, order_of, player_of, site_of
from trainer.schedule.constant import Constant
from trainer.stage import Stage

STEPS = 14  # an epoch: 1,711 triples in batches of 128


def stage_of(**options: Any) -> Stage:
    context = context_of(families())
    sampler = UniformSampler(context, num_negatives=2, mask_known=False, redraw_known=False)
    order = order_of(families(), sampler, batch_size=128)
    assert order.steps_per_epoch == STEPS
    player = player_of(model_of(site_of(families())))
    return Stage("training", "discriminator", player, sampler, order, schedule=Constant(warm_up=0.0), **options)


@pytest.mark.parametrize(
    ("epochs", "valid_every", "fewest", "validations"),
    [
        (9, 3, 3, [3 * STEPS, 6 * STEPS, 9 * STEPS]),
        (9, 4, 3, [3 * STEPS, 6 * STEPS, 9 * STEPS]),
        (9, 4, 0, [4 * STEPS, 8 * STEPS, 9 * STEPS]),
        (5, 10, 3, [epoch * STEPS for epoch in (1, 2, 3, 4, 5)]),
        (2, 10, 3, [9, 18, 27, 28]),
        (1, 10, 3, [4, 8, 12, 14]),
        (1, 10, 0, [14]),
        (1, 0, 3, []),
    ],
)
def test_validations(epochs: int, valid_every: int, fewest: int, validations: list[int]):
    stage = stage_of(epochs=epochs, valid_every=valid_every, patience=0, fewest_validations=fewest)
    assert [step for step in range(1, stage.steps + 1) if stage.validates_after(step)] == validations


@pytest.mark.parametrize(("epochs", "fewest", "every"), [(1, 20, 1), (5, 20, 3), (1000, 20, 100), (5, 0, 100)])
def test_steps_between_lines(epochs: int, fewest: int, every: int):
    stage = stage_of(epochs=epochs, valid_every=1, patience=0, fewest_lines=fewest)
    assert stage.steps_between_lines(100) == every
