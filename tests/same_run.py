"""Compares runs: the same data in every step, and losses and metrics that differ by rounding alone."""

import json
from pathlib import Path
from typing import Any

import pytest


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, but for times and use of memory."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith(("speed/", "usage/"))} for line in lines]


def assert_same_run(folder: Path, other: Path) -> None:
    """Fails unless two runs had the same steps, data (`trainer.log_digests=true`), losses and validations."""
    steps, others = read_steps(folder), read_steps(other)
    assert [line["step"] for line in steps] == [line["step"] for line in others]
    for line, like in zip(steps, others, strict=True):
        assert line.keys() == like.keys()
        for key, value in like.items():
            assert line[key] == (pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value), key
    result, expected = (json.loads((each / "result.json").read_text()) for each in (folder, other))
    for key in ("best_step", "steps", "stages"):
        assert result[key] == expected[key]
    assert result["test"]["both"]["mrr"] == pytest.approx(expected["test"]["both"]["mrr"], rel=1e-4)
