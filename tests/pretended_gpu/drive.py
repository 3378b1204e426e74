"""Drives runs as `advkge train` builds them, on the pretended GPU or on the CPU: whole runs, or single steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from launch.build import build_run, build_trainer
from launch.built_run import Run
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
    "graph.hidden_share=0.5",
    "graph.valid_share=0.03",
    "graph.test_share=0.03",
    "trainer.batch_size=320",
    "trainer.valid_every=1",
    "trainer.log_every=3",
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


def built(
    options: Sequence[str], folder: Path, runtime: Runtime, *, epochs: int, resumed: bool = False
) -> tuple[Run, Trainer]:
    """A run of these options, before its first step."""
    config = composed("train", *SMALL, *options)
    note_typed(config, [*SMALL, *options])
    config.trainer.epochs = epochs
    run = build_run(config, runtime, trains=True, loaded=resumed)
    return run, build_trainer(run, folder, resumed=resumed)


def alone(device: str) -> Runtime:
    """The only rank of a run, on "cuda" or "cpu"."""
    return Runtime.start(device=device, timeout_seconds=1.0)


def train(options: Sequence[str], folder: Path, runtime: Runtime, *, epochs: int = 2) -> Trained:
    """Trains one epoch, ends, goes on from the checkpoint up to so many epochs, and ranks the test triples."""
    _, trainer = built(options, folder, runtime, epochs=1)
    fit(trainer, folder)
    run, trainer = built(options, folder, runtime, epochs=epochs, resumed=True)
    checkpoint = find_checkpoint(folder, "latest", "resume")
    trainer.resume(checkpoint, trainer.checkpointer.read_manifest(checkpoint))
    fit(trainer, folder)
    test = run.evaluator(run.all_known).evaluate(run.discriminator, run.graph.test).as_dict()
    # "cost/" are times and memory, of `quality=sampled`.
    steps = [{key: line[key] for key in line if not key.startswith("cost/")} for line in read_steps(folder)]
    return Trained(steps, test, saved_in(folder))


def count_steps(
    options: Sequence[str],
    folder: Path,
    runtime: Runtime,
    counts: Counts,
    *,
    steps: int,
    after: int | None = None,
) -> None:
    """Counts so many steps of the last stage, from step `after` on; None: from the second step of the second epoch on.

    Before that, samplers may refresh, DDP makes its buckets, and the order of an epoch is laid out.
    """
    _, trainer = built(options, folder, runtime, epochs=2)
    stage = trainer.stages[-1]
    first = stage.order.steps_per_epoch + 1 if after is None else after
    for number in range(first + steps):
        if number == first:
            counts.clear()
        trainer.train_step(stage, number)


def fit(trainer: Trainer, folder: Path) -> None:
    """Trains as `advkge train` does, with trackers that write in the folder."""
    folder.mkdir(exist_ok=True)
    title = Title(name="", group=None, job_type="train", tags=())
    for tracker in trainer.trackers:
        tracker.start(folder, {}, title=title, run_id=None, from_step=trainer.cursor.step)
    try:
        trainer.fit()
    finally:
        for tracker in trainer.trackers:
            tracker.finish(None)


def saved_in(folder: Path) -> dict[str, Tensor]:
    """All tensors of the last checkpoint of a run."""
    files = sorted(find_checkpoint(folder, "latest", "resume").glob("*.safetensors"))
    return {f"{file.stem}: {name}": value for file in files for name, value in load_file(file).items()}
