"""torchrun on several machines, with a shared run folder and with a disk each: the run is that of one machine."""

import sys
from pathlib import Path

import pytest

from tests.machines import Machines, machines, why_no_machines
from tests.same_run import assert_same_run

ROOT = Path(__file__).parents[2]
_WHY_NOT = why_no_machines()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))]


@pytest.fixture(scope="module")
def options(tiny) -> list[str]:
    return [*tiny, "trainer.log_digests=true"]


@pytest.fixture(scope="module")
def on_one(shell, options, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    outcome = shell([ROOT / "launch/train.py", *options, f"hydra.run.dir={folder}"], folder=folder.parent)
    assert outcome.code == 0, outcome.errors
    return folder


def torchrun(made: Machines, machine: int, options: list[str], environment: dict[str, str], *flags: str) -> None:
    common = ["--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-endpoint=machine1:29400"]
    command = [sys.executable, "-m", "torch.distributed.run", *common, *flags, str(ROOT / "launch/train.py"), *options]
    made.start(machine, command, environment, made.folder)


def train(made: Machines, options: list[str], environment: dict[str, str]) -> None:
    for machine in range(1, made.count + 1):
        torchrun(made, machine, options, environment, f"--nnodes={made.count}")
    codes = made.wait()
    assert codes == [0] * made.count, made.said(1) + made.said(2)


@pytest.mark.parametrize("count", [2, 3])
def test_a_run_with_a_shared_folder(count, on_one, options, environment, tmp_path):
    with machines(tmp_path, count) as made:
        train(made, [*options, f"hydra.run.dir={tmp_path}/run"], environment)
    assert_same_run(tmp_path / "run", on_one)


def test_a_run_on_disks_that_are_not_shared_is_whole_on_each(on_one, options, environment, tmp_path):
    with machines(tmp_path, 2) as made:
        train(made, [*options, f"hydra.run.dir={made.disk}/run"], environment)
        one, other = (made.disk_of(machine) / "run" / "checkpoints" for machine in (1, 2))
        assert_same_run(next(path.parent for path in (one, other) if (path.parent / "result.json").exists()), on_one)
    for path in one.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()
    for name in ("metrics.jsonl", "config.yaml", "overrides.yaml"):
        assert (one.parent / name).read_bytes() == (other.parent / name).read_bytes()


def test_a_network_that_is_slow_and_loses_packets_changes_nothing(on_one, options, environment, tmp_path):
    with machines(tmp_path, 2, seconds=0.02, loss=0.01) as made:
        train(made, [*options, f"hydra.run.dir={tmp_path}/run"], environment)
        assert made.network.lost > 10
    assert_same_run(tmp_path / "run", on_one)


def test_a_command_compares_two_machines_with_one_process_on_a_graph_of_its_kind(shell, tmp_path):
    words = ["--entities=2000", "--triples=20000", "--relations=5", "--clusters=20"]
    assert shell(["-m", "benchmarks.large_graph", tmp_path / "graph", *words], folder=ROOT).code == 0
    outcome = shell(["-m", "tests.large_machines", tmp_path / "graph", "--steps=10"], folder=ROOT)
    assert outcome.code == 0, outcome.errors
    row = "| two machines beside one process | equal | equal | 2 digests in each of 2 steps; losses differ by "
    assert outcome.output.startswith(row)
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]
