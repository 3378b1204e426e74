"""torchrun's elastic launch: a machine that dies or joins costs the work since the last checkpoint, and no hand."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines import machines, why_no_machines
from tests.nodes import ROOT, WITHOUT_ITS_STORE, elastic, free_port, held_until_told_to_end, on_this_machine
from tests.same_run import assert_same_run
from tests.warm_start import wait_until

_WHY_NOT = why_no_machines()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(tiny) -> list[str]:
    return [*tiny, "trainer.log_digests=true", "trainer.epochs=20", "trainer.patience=0", "resume=auto"]


@pytest.fixture(scope="module")
def unbroken(shell, options, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    outcome = shell([ROOT / "launch/train.py", *options, f"hydra.run.dir={folder}"], folder=folder.parent)
    assert outcome.code == 0, outcome.errors
    return folder


@pytest.fixture
def agent(environment, options, tmp_path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts torchrun for a node, in a process group of its own, with a run folder that all nodes share."""
    started: list[subprocess.Popen[bytes]] = []
    port = free_port()

    def start(node: int) -> subprocess.Popen[bytes]:
        command = on_this_machine(port, [*options, f"hydra.run.dir={tmp_path}/run"], is_host=node == 1)
        variables = environment | WITHOUT_ITS_STORE
        with (tmp_path / f"said_{node}").open("ab") as said:
            group = {"cwd": tmp_path, "start_new_session": True}
            started.append(subprocess.Popen(command, stdout=said, stderr=said, env=variables, **group))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def steps_saved(folder: Path) -> int:
    """The steps of the newest checkpoint."""
    return max((int(path.name.split("_")[1]) for path in folder.glob("checkpoints/step_*[0-9]")), default=0)


def test_a_run_goes_on_without_a_node_that_was_killed(agent, unbroken, tmp_path):
    first, second = agent(1), agent(2)
    wait_until(lambda: steps_saved(tmp_path / "run") >= 40)
    os.killpg(second.pid, signal.SIGKILL)
    assert first.wait(200) == 0, (tmp_path / "said_1").read_text()
    assert_same_run(tmp_path / "run", unbroken)


def test_a_node_that_joins_takes_part(agent, unbroken, tmp_path):
    first = agent(1)
    wait_until(lambda: steps_saved(tmp_path / "run") >= 24)
    with held_until_told_to_end(first.pid):
        second = agent(2)
    assert first.wait(200) == 0, (tmp_path / "said_1").read_text()
    assert second.wait(60) == 0, (tmp_path / "said_2").read_text()
    assert '"world_size": 2' in (tmp_path / "run/result.json").read_text()
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))
def test_a_machine_is_lost_with_its_disk_and_another_takes_its_place(options, environment, unbroken, tmp_path):
    """Machine 1 has torchrun's rendezvous; 2 is switched off, and 3, whose disk is empty, comes instead."""
    with machines(tmp_path, 3) as made:

        def start(machine: int) -> None:
            words = [*options, f"hydra.run.dir={made.disk}/run"]
            command = elastic("machine1:29400", words, is_host=machine == 1)
            made.start(machine, command, environment | WITHOUT_ITS_STORE, tmp_path)

        start(1)
        start(2)
        wait_until(lambda: steps_saved(made.disk_of(2) / "run") >= 40)
        with held_until_told_to_end(made.first_process_of(1)):
            made.kill(2)
            start(3)
        assert made.wait() == [0, 0], made.said(1)
        runs = [made.disk_of(machine) / "run" for machine in (1, 3)]
        assert_same_run(next(run for run in runs if (run / "result.json").exists()), unbroken)
        assert steps_saved(runs[0]) == steps_saved(runs[1]) >= 80
