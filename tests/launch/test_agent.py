"""Ranks that fail, hang, are killed or get signals, under our own launcher: small programs in place of a training."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import launch.agent
from launch.agent import Ending, run_processes

SAVES = """
def save(number, _):
    time.sleep(0.2)
    (folder / f"saved by {rank}").touch()
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, save)
(folder / f"ready {rank}").touch()
"""
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
WAITS = "time.sleep(30)\n"
WITHOUT_KERNELS = "plain torch is used, which is slower"
"""How the line of a process ends that has no kernels, as with `pytest --without-kernels`."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ending]:
    """Runs one program for each rank."""
    monkeypatch.setattr(launch.agent, "_NUDGE", 0.3)
    monkeypatch.setattr(launch.agent, "_GRACE", 1.0)

    def run(*programs: str) -> Ending:
        head = (
            f"import os, signal, sys, time, pathlib\nfolder, rank = pathlib.Path({str(tmp_path)!r}), os.environ['RANK']"
        )
        branches = [f"if rank == '{rank}':\n" + indented(program) for rank, program in enumerate(programs)]
        return run_processes([sys.executable, "-c", "\n".join([head, *branches])], len(programs))

    return run


def indented(program: str) -> str:
    return "".join(f"    {line}\n" for line in program.strip().splitlines())


def signalled_when_ready(folder: Path, ranks: int, *numbers: int, to: Callable[[], int] = os.getpid) -> None:
    """Sends this process signals, a bit more than a second apart, once so many programs are ready."""

    def send() -> None:
        while len(list(folder.glob("ready *"))) < ranks:
            time.sleep(0.01)
        for place, number in enumerate(numbers):
            time.sleep(1.2 * bool(place))
            os.kill(to(), number)

    threading.Thread(target=send, daemon=True).start()


def test_ranks_that_end_well_have_no_error(run):
    assert run("pass", "pass") == Ending(None, None, said_how_to_resume=False, asked=None)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("sys.exit(3)", "rank 1 (pid PID) ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "rank 1 (pid PID) was killed by SIGSEGV"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "rank 1 (pid PID) was killed by SIGKILL, as the system does when memory runs out",
        ),
    ],
)
def test_a_rank_that_fails_ends_the_others_and_is_named_once(program, expected, run, tmp_path, capfd):
    started = time.monotonic()
    note = "(folder / 'pid').write_text(str(os.getpid()))\n"
    ending = run(WAITS, note + program, WAITS)
    expected = expected.replace("PID", (tmp_path / "pid").read_text())
    assert ending == Ending(expected, None, said_how_to_resume=False, asked=None)
    assert capfd.readouterr().err == f"error: {expected}\n"
    assert time.monotonic() - started < 10


def test_the_rank_that_had_to_be_killed_is_named_and_not_the_one_that_waited_for_it(run, tmp_path, capfd):
    ending = run("time.sleep(0.5); sys.exit(1)", IGNORES + "(folder / 'pid').write_text(str(os.getpid()))\n" + WAITS)
    assert ending.error == (
        f"rank 1 (pid {(tmp_path / 'pid').read_text()}) did not answer the other ranks in time "
        "(launch.timeout_seconds), and was killed"
    )
    assert capfd.readouterr().err == f"error: {ending.error}\n"


@pytest.mark.parametrize(("typed", "used"), [("5", "5"), (None, str(max(1, (os.cpu_count() or 1) // 2)))])
def test_ranks_have_the_threads_that_the_user_set(typed, used, run, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if typed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", typed)
    run("(folder / 'threads').write_text(os.environ['OMP_NUM_THREADS'])", "pass")
    assert (tmp_path / "threads").read_text() == used


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_ranks_which_save_and_end(number, run, tmp_path, capfd):
    signalled_when_ready(tmp_path, 2, number)
    assert run(SAVES + WAITS, SAVES + WAITS) == Ending(None, number, said_how_to_resume=False, asked=number)
    assert {path.name for path in tmp_path.glob("saved *")} == {"saved by 0", "saved by 1"}
    assert capfd.readouterr().err == ""


def test_a_signal_to_one_rank_stops_all(run, tmp_path):
    program = "(folder / 'pid').write_text(str(os.getpid()))\n" + SAVES + WAITS
    signalled_when_ready(tmp_path, 2, signal.SIGTERM, to=lambda: int((tmp_path / "pid").read_text()))
    assert run(SAVES + WAITS, program) == Ending(None, signal.SIGTERM, said_how_to_resume=False, asked=None)
    assert (tmp_path / "saved by 0").exists()


def test_a_second_signal_ends_ranks_that_take_their_time(run, tmp_path):
    ready = "(folder / f'ready {rank}').touch()\n"
    signalled_when_ready(tmp_path, 2, signal.SIGTERM, signal.SIGTERM)
    ending = run(IGNORES + ready + WAITS, IGNORES + ready + WAITS)
    assert ending == Ending(None, signal.SIGTERM, said_how_to_resume=False, asked=signal.SIGTERM)


RANKS = """
import sys, time, torch
from graph.errors import InputError
from launch.errors import one_line_errors
from trainer.runtime import Runtime

def prepare():
    time.sleep({seconds})
    return 1

with one_line_errors():
    runtime = Runtime.start(device="cpu", timeout_seconds={timeout})
    if {error!r} and runtime.rank == 1:
        raise {error}
    runtime.first_then_others(prepare)
    runtime.add(torch.ones(1))
    if runtime.rank == 1:
        time.sleep({late})
    runtime.agree(None)
    runtime.close()
"""


def run_ranks(tmp_path: Path, **values: object) -> Ending:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(**values))
    return run_processes([sys.executable, str(script)], 2)


@pytest.fixture
def _this_checkout(monkeypatch, environment):
    for key in ("PYTHONPATH", "ADVKGE_CACHE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(key, environment[key])


@pytest.mark.slow
@pytest.mark.usefixtures("_this_checkout")
@pytest.mark.parametrize(
    ("error", "line", "has_traceback"),
    [
        ("InputError('loss: is only wrong here')", "loss: is only wrong here", False),
        ("ZeroDivisionError('of 3')", "rank 1 ended with ZeroDivisionError: of 3", True),
    ],
)
def test_an_error_of_one_rank_alone_is_the_one_line_of_the_run(error, line, has_traceback, tmp_path, capfd):
    started = time.monotonic()
    ending = run_ranks(tmp_path, error=error, seconds=0, timeout=600, late=0)
    said = [text for text in capfd.readouterr().err.splitlines() if not text.endswith(WITHOUT_KERNELS)]
    assert ending.error == line
    assert said[-1] == f"error: {line}"
    assert (len(said) > 1) is has_traceback
    assert len([text for text in said if "Traceback" in text]) == has_traceback
    assert time.monotonic() - started < 300  # with kernels to build on a busy machine


@pytest.mark.slow
@pytest.mark.usefixtures("_this_checkout")
def test_preparing_on_one_rank_may_take_longer_than_a_collective(tmp_path):
    assert run_ranks(tmp_path, error=None, seconds=5, timeout=3, late=0).error is None


@pytest.mark.slow
@pytest.mark.usefixtures("_this_checkout")
def test_a_rank_that_comes_late_is_named_and_not_the_one_that_waited_for_it(tmp_path, capfd):
    """As one that writes its part of a checkpoint to a slower disk."""
    ending = run_ranks(tmp_path, error=None, seconds=0, timeout=5, late=12)
    assert ending.error == (
        "rank 1 did not take part in an exchange within 5 seconds (launch.timeout_seconds): it hangs, or has much more "
        "to do than the others, or a slower disk"
    )
    assert capfd.readouterr().err.splitlines()[-1] == f"error: {ending.error}"
