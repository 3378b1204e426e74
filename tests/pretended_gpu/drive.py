"""Drives runs as `advkge train` builds them, on the pretended GPU or on the CPU: whole runs, or single steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from launch.build import Run, build_run, build_trainer
from launch.typed import note_typed
from tests.configs import composed
from tests.pretended_gpu.counting import Counts
from tests.same_run import read_steps
from trainer.loop import Trainer
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.tracking.tracker import Title

# Few entities and steps: what is looked at does not depend on their number.
SMALL = (
    "recipe=none",
    "graph=synthetic",
    "graph.num_people=100",
    "trainer.batch_size=512",
    "trainer.valid_every=1",
    "trainer.log_every=2",
    "trainer.log_digests=true",
    "discriminator.dim=8",
)


@dataclass(frozen=True)
class Trained:
    """What a run left behind."""

    steps: list[dict[str, Any]]
    """Lines of metrics.jsonl, without times."""
    test: dict[str, Any]
    """The ranking of the test triples."""
    saved: dict[str, Tensor]
    """All tensors of the last checkpoint: models, optimisers, and the sampler's state."""


def built(options: Sequence[str], folder: Path, *, device: str, resumed: bool = False) -> tuple[Run, Trainer]:
    """A run of these options, before its first step."""
    runtime = Runtime.start(device=device, timeout_seconds=1.0)
    config = composed("train", *SMALL, *options)
    note_typed(config, [*SMALL, *options])
    run = build_run(config, runtime, trains=True, loaded=resumed)
    return run, build_trainer(run, folder, resumed=resumed)


def train(options: Sequence[str], folder: Path, *, device: str) -> Trained:
    """Trains one epoch, ends, goes on from the checkpoint with another epoch, and ranks the test triples."""
    _, trainer = built([*options, "trainer.epochs=1"], folder, device=device)
    _fit(trainer, folder)
    run, trainer = built([*options, "trainer.epochs=2"], folder, device=device, resumed=True)
    checkpoint = find_checkpoint(folder, "latest", "resume")
    trainer.resume(checkpoint, trainer.checkpointer.read_manifest(checkpoint))
    _fit(trainer, folder)
    test = run.evaluator(run.all_known).evaluate(run.discriminator, run.graph.test).as_dict()
    return Trained(read_steps(folder), test, _saved(folder))


def count_steps(options: Sequence[str], folder: Path, counts: Counts, *, steps: int) -> None:
    """Counts so many steps of the last stage, after a first one, which may do work that the others need not."""
    _, trainer = built([*options, "trainer.epochs=2"], folder, device="cuda")
    stage = trainer.stages[-1]
    trainer.train_step(stage, 0)
    counts.clear()
    for number in range(1, 1 + steps):
        trainer.train_step(stage, number)


def _fit(trainer: Trainer, folder: Path) -> None:
    title = Title(name="", group=None, job_type="train", tags=())
    for tracker in trainer.trackers:
        tracker.start(folder, {}, title=title, run_id=None, from_step=trainer.cursor.step)
    trainer.fit()
    for tracker in trainer.trackers:
        tracker.finish(None)


def _saved(folder: Path) -> dict[str, Tensor]:
    files = sorted(find_checkpoint(folder, "latest", "resume").glob("*.safetensors"))
    return {f"{file.stem}: {name}": value for file in files for name, value in load_file(file).items()}
