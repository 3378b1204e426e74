import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from types import ModuleType, SimpleNamespace

import pytest
from hydra.core.global_hydra import GlobalHydra

from tests.warm_start import WarmPopen

ROOT = Path(__file__).parents[2]

# A run of a few seconds that goes through all of KBGAN's stages.
TINY = (
    "recipe=none",
    "graph.num_people=100",
    "discriminator.dim=8",
    "generator.dim=8",
    "generator.pool_size=8",
    "trainer.batch_size=256",
    "trainer.epochs=2",
    "trainer.valid_every=1",
    "trainer.log_every=2",
    "launch.device=cpu",
)


@dataclass(frozen=True)
class Outcome:
    """What a command said, and its exit code."""

    code: int
    output: str
    errors: str


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a run of a few seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_plain(tiny) -> list[str]:
    """The same for a generator that has none of KBGAN's options."""
    return [option for option in tiny if not option.startswith("generator.")]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For a command of this checkout that leaves nothing at home: the session's cache is in $ADVKGE_CACHE."""
    changed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "HYDRA_FULL_ERROR", "ADVKGE_DATA")
    return {key: value for key, value in os.environ.items() if key not in dropped} | changed


@pytest.fixture(scope="session")
def shell(environment) -> Callable[..., Outcome]:
    """Runs `python WORDS...` as a user would."""

    def run(words: Sequence[str | Path], *, folder: Path, timeout: float = 120) -> Outcome:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def warm(monkeypatch) -> None:
    """Commands that run in this process start their ranks and runs in two tenths of a second instead of seconds.

    They are processes nevertheless, with signals, exit codes and output of their own.
    """
    for module in ("agent", "cells", "trial"):
        monkeypatch.setattr(
            f"launch.{module}.subprocess", SimpleNamespace(Popen=WarmPopen, TimeoutExpired=TimeoutExpired)
        )


@pytest.fixture
def command(monkeypatch, tmp_path, capsys) -> Iterator[Callable[..., Outcome]]:
    """Runs a command's `main` in this process, which spares the seconds that imports take."""
    monkeypatch.chdir(tmp_path)
    for key in ("ADVKGE_DATA", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(key, raising=False)
    for key in ("HYDRA_FULL_ERROR", "ADVKGE_STAMP"):
        monkeypatch.setenv(key, "1")  # set by the commands; this undoes it
    monkeypatch.setattr("faulthandler.enable", lambda **_: None)  # torch's `record` would take pytest's
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    log_handlers = list(logging.getLogger().handlers)

    def run(module: ModuleType, *overrides: str) -> Outcome:
        GlobalHydra.instance().clear()
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *quiet, *overrides])
        capsys.readouterr()
        code: object = 0
        try:
            module.main()
        except SystemExit as exit_:
            code = exit_.code
        if isinstance(code, str):  # as the interpreter does
            sys.stderr.write(f"{code}\n")
            code = 1
        assert isinstance(code, int)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    yield run
    GlobalHydra.instance().clear()
    logging.getLogger().handlers[:] = log_handlers  # hydra's write to the output that pytest closes after a test
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def finished(shell, tiny, tmp_path_factory) -> Path:
    """The folder of a run that `python launch/train.py` made."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    outcome = shell([ROOT / "launch/train.py", *tiny, f"hydra.run.dir={folder}"], folder=folder.parent)
    assert outcome.code == 0, outcome.errors
    assert f"run folder: {folder}" in outcome.output
    return folder
