"""Checkpoints that the disk takes while training goes on: in real processes that are killed, and on a full disk."""

import errno
import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun
from trainer import background, saving_times
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.tensor_file import TensorFile
from trainer.tracking.tracker import Tracker

SLOW_FROM = 27
"""The first step whose checkpoint is never finished."""


def run_of(folder: Path, rank: int = 0, world_size: int = 1) -> KBGANRun:
    """60 steps in three stages, without validation; a checkpoint is due a step after the one before is written."""
    background.LEAST_BYTES, saving_times.LEAST_SHARE = 0, 0
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    return KBGANRun(folder, runtime=runtime, epochs=4, valid_every=0, checkpoint_minutes=1.0)


@pytest.fixture(autouse=True)
def _large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((background, "LEAST_BYTES"), (saving_times, "LEAST_SHARE")):
        monkeypatch.setattr(module, name, getattr(module, name))  # undoes what `run_of` sets


class Each(Tracker):
    """Calls a function with each step that is logged."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def start(self, folder: Path, config: Mapping[str, Any], **_: object) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.action(step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        pass


def unbroken(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    run = run_of(folder, rank, world_size)
    run.fit()
    return run.parameters()


def killed(rank: int, world_size: int, folder: Path) -> None:
    """Rank 0 is killed three steps after the last rank began a file that it never finishes."""
    run, plain_finish = run_of(folder, rank, world_size), TensorFile.finish

    def finish(self: TensorFile) -> str:
        if int(self.path.parent.name[5:14]) >= SLOW_FROM and rank == world_size - 1:
            self.path.write_bytes(b"half")
            (folder / "began").write_text(self.path.parent.name)
            time.sleep(1000)
        return plain_finish(self)

    steps_since: list[int] = []

    def kill(step: int) -> None:
        if (folder / "began").exists():
            steps_since.append(step)
        if len(steps_since) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    TensorFile.finish = finish  # this process is the test's own
    run.trainer.trackers = [*run.trainer.trackers, Each(kill)] if rank == 0 else []
    run.fit()


def resumed(rank: int, world_size: int, folder: Path) -> tuple[int, dict[str, Tensor]]:
    run = run_of(folder, rank, world_size)
    checkpoint = find_checkpoint(folder, "latest", "resume")
    run.trainer.resume(checkpoint, run.trainer.checkpointer.read_manifest(checkpoint))
    step = run.trainer.cursor.step
    run.fit()
    return step, run.parameters()


@pytest.mark.parametrize("world_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_while_it_writes_a_run_goes_on_from_the_checkpoint_before(world_size: int, tmp_path: Path):
    expected = run_on_ranks(world_size, unbroken, tmp_path / "unbroken")
    with pytest.raises(RuntimeError):
        run_on_ranks(world_size, killed, tmp_path / "killed")
    checkpoints = tmp_path / "killed" / "checkpoints"
    name = (tmp_path / "killed" / "began").read_text()
    assert [path.name for path in checkpoints.glob("*.tmp")] == [name]
    found = run_on_ranks(world_size, resumed, tmp_path / "killed")
    assert not list(checkpoints.glob("*.tmp"))
    for (step, parameters), wanted in zip(found, expected, strict=True):
        assert 20 <= step < SLOW_FROM  # it was saved in this stage, by time alone
        assert parameters.keys() == wanted.keys()
        assert all(parameters[key].equal(value) for key, value in wanted.items())


def on_a_full_disk(rank: int, world_size: int, folder: Path) -> tuple[int, str]:
    run, plain_hand_over = run_of(folder, rank, world_size), TensorFile.hand_over

    def hand_over(self: TensorFile) -> None:
        if int(self.path.parent.name[5:14]) >= SLOW_FROM and rank == world_size - 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # the kernel refuses more
        plain_hand_over(self)

    TensorFile.hand_over = hand_over
    run.trainer.trackers = []  # their files would be refused too
    try:
        run.fit()
    except InputError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return run.trainer.cursor.step, str(error)
    raise AssertionError("it was saved")


@pytest.mark.parametrize("world_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_ends_all_ranks_with_one_line(world_size: int, tmp_path: Path):
    found = run_on_ranks(world_size, on_a_full_disk, tmp_path)
    assert len(set(found)) == 1
    step, said = found[0]
    last = find_checkpoint(tmp_path, "latest", "resume")
    assert SLOW_FROM <= step < 40  # not as late as the end of the stage
    assert said == (
        f"could not save a checkpoint in {tmp_path / 'checkpoints'}: File too large; the last good one is {last.name}"
    )
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))


def test_a_signal_while_a_checkpoint_is_written_loses_no_step(tmp_path: Path):
    wanted = unbroken(0, 1, tmp_path / "unbroken")
    run = run_of(tmp_path / "stopped")
    was_writing: list[bool] = []

    def ask(step: int) -> None:
        if step >= SLOW_FROM and run.trainer.saver.is_pending:
            was_writing.append(True)
            run.runtime.stop_signal = signal.SIGTERM

    run.trainer.trackers = [*run.trainer.trackers, Each(ask)]
    with pytest.raises(Stopped):
        run.fit()
    assert was_writing
    step, parameters = resumed(0, 1, tmp_path / "stopped")
    assert step == run.trainer.cursor.step
    assert all(parameters[key].equal(value) for key, value in wanted.items())


def save(run: KBGANRun) -> None:
    run.trainer.saver.save(run.trainer.cursor, None, [], best=False, run_id=None, background=True)


def test_a_small_table_is_saved_at_once(tmp_path: Path):
    run = KBGANRun(tmp_path)
    save(run)
    assert not run.trainer.saver.is_pending
    assert find_checkpoint(tmp_path, "latest", "resume").name == "step_000000000_stage_0"


def test_a_checkpoint_is_the_last_once_it_is_published_and_holds_what_was_then(tmp_path: Path):
    run = run_of(tmp_path)
    wanted = {key: value.clone() for key, value in run.parameters().items()}
    save(run)
    with pytest.raises(InputError, match="resume: no checkpoint"):
        find_checkpoint(tmp_path, "latest", "resume")
    with torch.no_grad():
        run.model.entity.weight.add_(1)
        run.model.scorer.relation.add_(1)
    run.trainer.saver.publish()
    checkpoint = find_checkpoint(tmp_path, "latest", "resume")
    run.trainer.checkpointer.read_manifest(checkpoint)
    run.trainer.checkpointer.load(checkpoint, run.trainer.players)
    assert all(run.parameters()[key].equal(value) for key, value in wanted.items())


def failing_late(rank: int, world_size: int, folder: Path) -> tuple[int, str]:
    run, plain_finish = run_of(folder, rank, world_size), TensorFile.finish

    def finish(self: TensorFile) -> str:
        if int(self.path.parent.name[5:14]) >= SLOW_FROM and rank == world_size - 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # no disk here loses what it was given
        return plain_finish(self)

    TensorFile.finish = finish
    with pytest.raises(InputError) as error:
        run.fit()
    return run.trainer.cursor.step, str(error.value)


@pytest.mark.parametrize("world_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_disk_that_fails_later_ends_all_ranks_with_one_line(world_size: int, tmp_path: Path):
    found = run_on_ranks(world_size, failing_late, tmp_path)
    assert len(set(found)) == 1
    step, said = found[0]
    assert SLOW_FROM <= step < 40  # not as late as the end of the stage
    last = find_checkpoint(tmp_path, "latest", "resume")
    assert said.endswith(f": Input/output error; the last good one is {last.name}")


@pytest.mark.parametrize(("took", "wait"), [(1.0, 120.0), (60.0, 600.0)])
def test_saving_takes_a_tenth_of_the_time_at_most(took: float, wait: float, tmp_path: Path):
    run = KBGANRun(tmp_path, checkpoint_minutes=2.0)
    saver, times = run.trainer.saver, run.trainer.times
    now = [0.0]

    def clock() -> float:
        """A call costs as much as a checkpoint, until they are all saved."""
        now[0] += cost[0]
        return now[0]

    cost, saver.clock = [took], clock
    save(run)
    assert saver.seconds == took
    cost[0], ended = 0.0, now[0]
    for since, is_due in ((wait - 1, False), (wait, True)):
        now[0] = ended + since
        assert times.votes() == [0.0, float(is_due), 0.0]
