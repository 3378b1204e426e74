"""One cache for all tests and the processes that they start, so that the kernels are compiled once; or none at all."""

import os
from pathlib import Path

import pytest

from kernels.library import load

# Triton's interpreter runs its kernels on the CPU. It must be asked for before the first kernel is defined, whichever
# test is collected first. TRITON_INTERPRET=0 compiles them instead, for tests/gpu.
os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-kernels", action="store_true", help="as on a machine without a C++ compiler")
    parser.addoption("--renew-golden", action="store_true", help="write what tests/launch/test_golden_loss.py expects")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-kernels"):
        os.environ["CXX"] = "/nowhere/c++"
    # It outlives the session: a library is named by a digest of its sources, compiler and processor.
    if (cache := getattr(config, "cache", None)) is not None:  # None with `-p no:cacheprovider`
        os.environ["ADVKGE_CACHE"] = str(cache.mkdir("advkge"))
    load()  # before xdist starts its workers, which would each compile


@pytest.fixture(scope="session")
def compiled() -> None:
    """For a test of what only the kernels do."""
    if load() is None:
        pytest.skip("no C++ compiler here")


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who never logged in."""
    import wandb

    wandb.teardown()  # it reads its variables once a process
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
