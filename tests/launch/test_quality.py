"""Every sampler of conf/generator can be measured, and goes on as if it had not been."""

from pathlib import Path

import pytest

from launch.build import build_run, build_trainer
from tests.configs import CONF, composed
from trainer.loop import Trainer
from trainer.runtime import Runtime

SAMPLERS = sorted(path.stem for path in (CONF / "generator").glob("*.yaml"))
# What some ask of other options, or of so small a graph.
NEEDS = {
    "kbgan": ["generator.pool_size=8"],
    "false_negative_aware": ["generator.pool_size=8"],
    "in_batch": ["trainer.chunk_size=4"],
    "eans": ["generator.clusters=5"],
    "nscaching": ["generator.cache_size=6", "generator.fresh_size=6"],
    "from_file": [f"generator.file={CONF.parent / 'tests' / 'generator' / 'negatives.tsv'}"],
}
OPTIONS = (
    "graph.num_people=100",
    "discriminator.dim=4",
    "trainer.batch_size=64",
    "trainer.epochs=1",
    "quality=sampled",
    "quality.positives=16",
    "quality.draws=24",
)


def trainer_of(sampler: str, folder: Path) -> Trainer:
    config = composed("train", *OPTIONS, f"generator={sampler}", *NEEDS.get(sampler, []))
    return build_trainer(build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0)), folder)


def losses(trainer: Trainer, *, measured: bool) -> tuple[list[float], list[dict[str, float]]]:
    """Of the first steps of the last stage; with what was measured before, between and after them."""
    stage, cursor = trainer.stages[-1], trainer.cursor
    stage.player.start_stage()
    stage.sampler.start_stage()
    found, quality = [], []
    for number in range(3):
        if measured:
            quality.append(dict(trainer.observers[0].measure(stage, cursor)))
        found.append(trainer.train_step(stage, number).loss)
        cursor.stage_step += 1
    return found, quality


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_measuring_changes_nothing(sampler: str, tmp_path: Path):
    expected, _ = losses(trainer_of(sampler, tmp_path), measured=False)
    found, quality = losses(trainer_of(sampler, tmp_path), measured=True)
    assert found == expected
    for values in quality:
        for name in ("hardness", "active", "distinct", "entropy", "coverage", "known_true", "hidden_true"):
            assert 0 <= values[f"quality/{name}"] <= 1, name
        assert values["quality/distinct"] > 0
        assert values["quality/nce_error"] > 0
