"""A run ends when the scorecard or the search that started it is killed, which then can't tell it anything.

So do the ranks of a launcher that is killed.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import launch.cells
import launch.trial
from launch.cells import Cell, run_cell
from launch.last_line import may_say
from launch.trial import run_trial
from tests.nodes import free_port
from tests.ranks import new_process
from tests.warm_start import is_running, wait_until

PROGRAM = """
from launch.early_signals import end_at_signals
end_at_signals()
import os, pathlib, time
pathlib.Path(PATH).write_text(str(os.getpid()))
time.sleep(60)
"""


def start_a_cell(folder: Path) -> None:
    launch.cells._SCRIPT = folder / "program.py"
    cell = Cell(
        graph="umls",
        discriminator="transe",
        sampler="uniform",
        num_negatives=None,
        seed=0,
        ranks=1,
        folder=folder / "cell",
        options=[],
    )
    run_cell(cell, {"budget": None, "epochs": 1}, 1, lambda _: 1)


def start_a_trial(folder: Path) -> None:
    launch.trial._SCRIPT = folder / "program.py"
    run_trial([], folder / "trial", "valid/mrr", 1, lambda *_: False)


@pytest.mark.parametrize("start", [start_a_cell, start_a_trial])
def test_a_run_ends_with_what_started_it(start, tmp_path: Path):
    pid = tmp_path / "pid"
    (tmp_path / "program.py").write_text(PROGRAM.replace("PATH", repr(str(pid))))
    starter = new_process(start, tmp_path)
    starter.start()
    wait_until(lambda: starter.exitcode is not None or (pid.is_file() and pid.read_text() != ""))
    assert starter.is_alive(), "it failed before its run had begun"
    starter.kill()
    starter.join()
    wait_until(lambda: not is_running(int(pid.read_text())))


def test_a_rank_does_not_look_for_the_store_of_a_launcher_that_was_killed(monkeypatch, capfd):
    launcher = subprocess.Popen([sys.executable, "-c", ""])
    launcher.wait()
    values = {"ADVKGE_LAUNCHER": launcher.pid, "RANK": 1, "WORLD_SIZE": 2}
    for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))
    began = time.monotonic()
    assert may_say("stopped by signal 15")
    assert time.monotonic() - began < 3  # torch takes 10 seconds until it gives up
    assert capfd.readouterr().err == ""
