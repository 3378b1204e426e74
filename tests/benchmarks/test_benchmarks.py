"""The benchmarks' cases are runs that the project can make, and the command measures one from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from benchmarks import report
from benchmarks.cases import CASES, Case, Kind, select
from benchmarks.placement import MODELS
from benchmarks.project import compose_case
from benchmarks.targets import TARGETS, Target, judge
from benchmarks.timing import Timing
from launch.options import check_options

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def composing(monkeypatch):
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_options_of_every_case_fit(case: Case):
    for one in (case, case.beside):
        if one is not None:
            check_options(compose_case(one, "synthetic"))


@pytest.mark.parametrize("placement", ["random", "metis"])
@pytest.mark.parametrize("model", MODELS)
def test_options_of_every_placement_fit(model: str, placement: str):
    words = (*MODELS[model], f"placement={placement}")
    check_options(compose_case(Case("placement", Kind.TRAIN, words, "complex"), "synthetic"))


def test_names_are_distinct_and_filters_find_them():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert [case.name for case in select(["rank/complex", "kbgan/"], quick=True)] == [
        "kbgan/own_setting",
        "kbgan/pool256",
        "rank/complex",
    ]
    assert 0 < len(select([], quick=True)) < len(select([], quick=False)) == len(CASES)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.cases} {target.figure}")
def test_every_target_has_a_case(target: Target):
    judged = judge([{"case": case.name, "figures": {target.figure: 1.0}} for case in CASES])
    assert target in [found for _, found, _ in judged]
    assert not target.figure.startswith("x train/") or target.figure[2:] in [case.name for case in CASES]


def test_a_target_is_reached_from_its_side():
    assert Target("*", "x peer", 100).reached(100)
    assert not Target("*", "x peer", 100).reached(99)
    assert not Target("*", "peak of budget", 1, most=True).reached(1.01)


def test_timing_of_a_piece():
    timing = Timing((4.0, 2.0, 6.0)) / 2
    assert (timing.best, timing.median) == (1.0, 2.0)


@pytest.mark.slow
def test_command_measures_a_case_on_the_built_in_graph(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "ADVKGE_DATA"}
    words = ["train/complex/softmax/own", "--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the built-in graph instead" in done.stderr
    [result] = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert result["case"] == "train/complex/softmax/own"
    assert result["machine"]["graph"] == "synthetic"
    figures = result["figures"]
    assert figures["scored negatives/s"] == pytest.approx(256 * figures["positives/s"])
    assert figures["positives/s"] >= figures["positives/s, median"] > 0
    assert 100 < result["peak_mb"] < 10_000
    assert report.table([result]) in done.stdout
    assert report.table([result]) in (tmp_path / "table.md").read_text()
