from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from generator.curriculum import CurriculumSampler, Shape
from generator.degree import DegreeSampler
from generator.kbgan import KBGANSampler
from generator.sampler import NegativeSampler
from generator.uniform import UniformSampler
from graph.batch import Batch
from graph.errors import InputError
from tests.worlds import KBGANRun, batch_of, context_of, families, kbgan_of, no_opinion, order_of, player_of
from trainer.schedule.constant import Constant
from trainer.stage import Stage

TRAIN = families().train
OPTIONS: dict[str, Any] = {
    "num_negatives": 10,
    "share": [0.0, 1.0],
    "pool_size": None,
    "temperature": None,
    "shape": "linear",
    "progress": "step",
    "steps": 100,
    "margin": 1.0,
    "separated": 0.8,
    "decay": 0.9,
}


class Only(UniformSampler):
    """Draws entity 127 alone, so that its negatives can be told."""

    def draw(self, batch: Batch, purpose: str) -> Any:
        return super().draw(batch, purpose) * 0 + 127


hard = partial(Only, num_negatives=1, mask_known=False, redraw_known=False)


def kbgan(context: Any, *, num_negatives: int = 2, pool_size: int = 6, temperature: float = 1.0) -> KBGANSampler:
    return kbgan_of(context, num_negatives=num_negatives, pool_size=pool_size, temperature=temperature)


def sampler_of(make: Callable[..., NegativeSampler] = hard, **options: Any) -> CurriculumSampler:
    return CurriculumSampler(context_of(families()), hard=make, **(OPTIONS | options))


def hard_negatives(sampler: CurriculumSampler, step: int) -> int:
    """How many of ten; a uniform one that is 127 by chance counts in few of these eight rows."""
    negatives = sampler.propose(replace(batch_of(TRAIN[:8]), step=step), no_opinion)
    assert negatives.entity.shape == (8, 10)
    return int((negatives.entity == 127).all(0).sum())


def test_hard_negatives_come_as_the_schedule_says():
    sampler = sampler_of()
    counts = [hard_negatives(sampler, step) for step in range(121)]
    assert counts[0] == 0
    assert counts[100:] == [10] * 21
    for step, count in enumerate(counts[:100]):
        assert step // 10 <= count <= step // 10 + 1
    assert sum(counts[:100]) == pytest.approx(495, abs=15)  # the mean of the fractions is kept


def test_a_share_can_stay_or_shrink():
    always = sampler_of(share=[1.0, 1.0])
    assert [hard_negatives(always, step) for step in (0, 50, 100)] == [10, 10, 10]
    backwards = sampler_of(share=[1.0, 0.0])
    assert [hard_negatives(backwards, step) for step in (0, 50, 100)] == [10, 5, 0]


def test_a_share_can_be_held_raised_and_lowered():
    sampler, steps = sampler_of(share=[0.2, 0.2, 1.0, 0.0], steps=60), (0, 10, 20, 30, 40, 50, 60, 90)
    assert [hard_negatives(sampler, step) for step in steps] == [2, 2, 2, 6, 10, 5, 0, 0]


@pytest.mark.parametrize(
    ("shape", "way"),
    [("linear", [0, 0.25, 0.5, 1, 1]), ("cosine", [0, 0.1464466, 0.5, 1, 1]), ("step", [0, 0, 0, 1, 1])],
)
def test_shapes(shape: str, way: list[float]):
    assert [Shape(shape).way(progress) for progress in (0.0, 0.25, 0.5, 1.0, 3.0)] == pytest.approx(way)


def test_options_of_the_hard_sampler_go_along():
    sampler = sampler_of(kbgan, share=[1.0, 1.0], pool_size=[10, 40], temperature=[2.0, 0.5])
    assert isinstance(sampler.hard, KBGANSampler)
    for step, pool_size, temperature in ((0, 10, 2.0), (50, 25, 1.25), (200, 40, 0.5)):
        sampler.propose(replace(batch_of(TRAIN[:8]), step=step), no_opinion)
        assert sampler.hard.pool_size == pool_size
        assert sampler.hard.temperature == temperature
        assert sampler.hard._drawn.log_prob.shape == (8, pool_size)


def test_the_proposal_is_that_of_the_step():
    degree = partial(DegreeSampler, num_negatives=1, power=1.0, mask_known=False, redraw_known=False)
    sampler = sampler_of(degree)
    share = torch.bincount(TRAIN[:, [0, 2]].flatten(), minlength=128).double()
    for step, part in ((0, 0.0), (30, 0.3), (100, 1.0)):
        negatives = sampler.propose(replace(batch_of(TRAIN[:8]), step=step), no_opinion)
        assert negatives.proposal is not None
        probability = part * share / share.sum() + (1 - part) / 128
        assert torch.allclose(negatives.proposal.negative.exp(), probability[negatives.entity])


def test_progress_follows_what_is_separated(tmp_path: Path):
    run = KBGANRun(tmp_path)
    sampler = CurriculumSampler(context_of(run.graph), hard=hard, **(OPTIONS | {"progress": "margin", "margin": 0.3}))
    order = order_of(run.graph, sampler)
    stage = Stage("adversarial", "discriminator", player_of(run.model), sampler, order, 1, 1, 0, Constant(warm_up=0.0))
    average = 0.0
    for number in range(5):
        assert hard_negatives(sampler, 0) in [int(average / 0.8 * 10) + extra for extra in (0, 1)]
        step = run.trainer.train_step(stage, number)
        below = (step.verdict.positive[:, None] - step.verdict.negative >= 0.3).double().mean(1)
        average = 0.9 * average + 0.1 * float((below * step.batch.weight).sum() / step.batch.global_weight)
        assert sampler.average == pytest.approx(average)
    assert 0.05 < average < 0.5
    sampler.start_stage()
    assert sampler.average == 0


def test_a_finished_average_is_full_hardness():
    sampler = sampler_of(progress="margin")
    sampler.load_state({"separated": torch.tensor([0.8], dtype=torch.float64)})
    assert hard_negatives(sampler, 0) == 10
    sampler.load_state({"separated": torch.tensor([0.4], dtype=torch.float64)})
    assert hard_negatives(sampler, 0) == 5


def without_num_negatives(context: Any) -> NegativeSampler:
    return hard(context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, r"generator.num_negatives must be at least 1, got 0"),
        ({"share": [0.0, 1.5]}, r"generator.share must be from 0 to 1, got \[0.0, 1.5\]"),
        ({"share": [0.5]}, r"generator.share must be two numbers or more, from the first to the last, got \[0.5\]"),
        ({"shape": "round"}, r"generator.shape must be one of linear, cosine, step, got 'round'"),
        ({"progress": "epoch"}, r"generator.progress must be one of step, margin, got 'epoch'"),
        ({"steps": 0}, r"generator.steps must be at least 1, got 0"),
        ({"separated": 0.0}, r"generator.separated must be above 0 and at most 1, got 0.0"),
        ({"decay": 1.0}, r"generator.decay must be in \[0, 1\), got 1.0"),
        ({"pool_size": [5, 10]}, r"generator.pool_size: the sampler of generator.hard has no option pool_size"),
        ({"make": without_num_negatives}, r"generator.num_negatives: .* generator.hard has no option num_negatives"),
        ({"make": kbgan, "pool_size": [5, 200]}, r"generator.hard.pool_size must not exceed .* 128 entities, got 200"),
        ({"make": kbgan, "temperature": [1.0, 0.0]}, r"generator.hard.temperature must be positive, got 0.0"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)


def test_one_hard_negative_must_be_enough_for_a_share_that_begins_at_none():
    distinct = partial(kbgan_of, replacement=False, pool_size=20)

    def make(context: Any, *, num_negatives: int) -> NegativeSampler:
        return distinct(context, num_negatives=num_negatives)

    with pytest.raises(InputError, match=r"generator.hard.num_negatives must be at least 2 without replacement, got 1"):
        sampler_of(make)
    sampler_of(make, share=[0.2, 1.0])
