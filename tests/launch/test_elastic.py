"""torchrun's elastic launch: a machine that dies or joins costs the work since the last checkpoint, and no hand."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines import machines, why_no_machines
from tests.same_run import assert_same_run
from tests.warm_start import wait_until

ROOT = Path(__file__).parents[2]
_WHY_NOT = why_no_machines()
# A node counts as lost after 3 seconds without a sign of life, and a restart waits 3 seconds for others to join.
ELASTIC = (
    "--nnodes=1:2",
    "--max-restarts=5",
    "--nproc-per-node=1",
    "--rdzv-backend=c10d",
)
_WITHOUT_ITS_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""torch 2.13 never tells a node that joins later where the store is that its launchers share."""
_TIMES = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3"
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def start(node: int) -> subprocess.Popen[bytes]:
        conf = f"--rdzv-conf={_TIMES},is_host={int(node == 1)}"  # the rendezvous ends with its host
        flags = [*ELASTIC, conf, f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
        words = [str(ROOT / "launch/train.py"), *options, f"hydra.run.dir={tmp_path}/run"]
        with (tmp_path / f"said_{node}").open("ab") as said:
            command = [sys.executable, "-m", "torch.distributed.run", *flags, *words]
            started.append(
                subprocess.Popen(
                    command,
                    stdout=said,
                    stderr=said,
                    env=environment | _WITHOUT_ITS_STORE,
                    cwd=tmp_path,
                    start_new_session=True,
                )
            )
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
    first = agent(1)
    second = agent(2)
    wait_until(lambda: steps_saved(tmp_path / "run") >= 40)
    os.killpg(second.pid, signal.SIGKILL)
    assert first.wait(200) == 0, (tmp_path / "said_1").read_text()
    assert_same_run(tmp_path / "run", unbroken)


def test_a_node_that_joins_takes_part(agent, unbroken, tmp_path):
    first = agent(1)
    wait_until(lambda: steps_saved(tmp_path / "run") >= 24)
    second = agent(2)
    assert first.wait(200) == 0, (tmp_path / "said_1").read_text()
    assert second.wait(60) == 0, (tmp_path / "said_2").read_text()
    assert '"world_size": 2' in (tmp_path / "run/result.json").read_text()
    assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))
def test_a_machine_is_lost_with_its_disk_and_another_takes_its_place(options, environment, unbroken, tmp_path):
    """Machine 1 hosts torchrun's rendezvous; 2 is switched off, and 3, whose disk is empty, comes instead."""
    with machines(tmp_path, 3) as made:
        words = [str(ROOT / "launch/train.py"), *options, f"hydra.run.dir={made.disk}/run"]
        flags = [*ELASTIC, f"--rdzv-conf={_TIMES}", "--rdzv-endpoint=machine1:29400"]
        command = [sys.executable, "-m", "torch.distributed.run", *flags, *words]
        made.start(1, command, environment | _WITHOUT_ITS_STORE, tmp_path)
        made.start(2, command, environment | _WITHOUT_ITS_STORE, tmp_path)
        wait_until(lambda: steps_saved(made.disk_of(2) / "run") >= 40)
        made.kill(2)
        made.start(3, command, environment | _WITHOUT_ITS_STORE, tmp_path)
        assert made.wait() == [0, 0], made.said(1)
        runs = [made.disk_of(machine) / "run" for machine in (1, 3)]
        assert_same_run(next(run for run in runs if (run / "result.json").exists()), unbroken)
        assert steps_saved(runs[0]) == steps_saved(runs[1]) >= 80
