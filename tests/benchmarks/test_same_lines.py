"""Lines of two runs are equal if their digests are, and their losses but for rounding."""

import json
from pathlib import Path

import pytest

from benchmarks.same_lines import compare


def run(folder: Path, losses: list[float], digest: str = "a", unfinished: str = "") -> Path:
    folder.mkdir()
    lines = [{"step": 5 * (place + 1), "loss": loss, "digest/triples": digest} for place, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + unfinished)
    return folder


def test_steps_that_both_have_are_compared(tmp_path: Path):
    same = compare(run(tmp_path / "a", [2.0, 1.0, 0.5]), run(tmp_path / "b", [2.0, 1.00001], unfinished='{"step": 15'))
    assert (same.steps, same.digests, same.are_equal) == (2, 1, True)
    assert same.cells == "equal | equal | 1 digests in each of 2 steps; losses differ by 1e-05"


@pytest.mark.parametrize(("losses", "digest"), [([2.0, 1.001], "a"), ([2.0, 1.0], "b")])
def test_another_loss_or_digest_is_not_equal(losses: list[float], digest: str, tmp_path: Path):
    same = compare(run(tmp_path / "a", [2.0, 1.0]), run(tmp_path / "b", losses, digest))
    assert not same.are_equal
    assert same.cells.startswith("NOT EQUAL")


def test_runs_without_a_common_step_are_an_error(tmp_path: Path):
    with pytest.raises(RuntimeError, match="no digests of the same step"):
        compare(run(tmp_path / "a", [2.0]), run(tmp_path / "b", []))
