"""What a sweep's report makes of its runs."""

import csv
import io
from pathlib import Path

import pytest

from graph.errors import InputError
from reporting.page import Heading
from reporting.scorecard_sweep import read_sweep_results
from reporting.scorecard_table import blocks
from reporting.sweep_page import as_page
from reporting.sweep_runs import SweepRun, read_sweep, seed_groups, variance_shares, varied_options
from reporting.sweep_table import draw_sweep, sweep_csv, sweep_text
from tests.pages import Page
from tests.sweep_folders import make_sweep


@pytest.fixture
def sweep(tmp_path) -> Path:
    return make_sweep(tmp_path / "sweep")


def test_runs_that_differ_by_seed_are_one_line(sweep):
    runs = read_sweep(sweep)
    assert [run.name for run in runs] == [str(number) for number in range(9)]
    assert varied_options(runs) == ["generator", "optimizer.lr", "seed"]
    groups = seed_groups(runs)
    assert [group.name for group in groups] == [
        "generator=kbgan optimizer.lr=0.1",
        "generator=kbgan optimizer.lr=0.01",
        "generator=uniform optimizer.lr=0.1",
        "generator=uniform optimizer.lr=0.01",
    ]
    assert [len(group.runs) for group in groups] == [1, 2, 2, 2]
    assert groups[0].spread("valid_mrr") is None
    assert groups[1].mean("valid_mrr") == pytest.approx(0.395)
    assert groups[1].spread("valid_mrr") == pytest.approx(0.01 / 2**0.5)


def run_of(mrr: float, **options: str) -> SweepRun:
    return SweepRun("run", options, {"valid_mrr": mrr, "seconds": 1.0})


def test_shares_of_variance_add_up_without_interactions():
    # MRR = a + b over a whole grid: what each option explains is exactly its own variance.
    runs = [run_of(a + b, a=str(a), b=str(b)) for a in (0.0, 0.3) for b in (0.0, 0.1)]
    assert variance_shares(runs) == pytest.approx({"a": 0.9, "b": 0.1})
    assert variance_shares([run_of(0.1, a="1"), run_of(0.2, a="2")]) == {"a": None}  # one run of each value
    assert variance_shares([run_of(0.1, a=a) for a in "1122"]) == {"a": None}  # no variance at all
    runs = [run_of(0.1 * number, recipe=name, discriminator=name) for number, name in enumerate("xxyy")]
    assert list(variance_shares(runs)) == ["discriminator"]  # the recipe follows the model


def test_the_table_names_what_mattered_and_what_failed(sweep):
    said = sweep_text(read_sweep(sweep)).splitlines()
    assert said[1].split()[:2] == ["1", "0.4200"] and said[1].endswith("generator=kbgan optimizer.lr=0.1")
    assert "0.3950 ± 0.0071" in said[2]
    assert said[5].startswith("share of the variance of MRR, valid: generator 9")
    assert said[6] == "without a result: 7, 8"
    rows = list(csv.DictReader(io.StringIO(sweep_csv(read_sweep(sweep)))))
    assert [row["finished"] for row in rows] == ["1"] * 7 + ["0"] * 2
    assert (rows[6]["generator"], rows[6]["optimizer.lr"]) == ("kbgan", "0.1")
    assert float(rows[6]["valid_mrr"]) == pytest.approx(0.42)
    assert [row["still_rising"] for row in rows[:4]] == ["0", "0", "1", "1"]


def test_the_page_has_the_numbers_of_the_files(sweep):
    runs = read_sweep(sweep)
    plot = draw_sweep(runs)
    page = Page(as_page(Heading("typed <b>", {}, "now"), "<sweep>", runs, plot))
    page.check()
    rows = page.tables["All runs"]
    assert rows[0][:5] == ["run", "generator", "optimizer.lr", "seed", "MRR, valid"]
    assert rows[7][:5] == ["6", "kbgan", "0.1", "0", "0.4200"]
    assert rows[8][4] == "-"
    assert page.tables["Means over seeds"][2][:4] == ["kbgan", "0.01", "2", "0.3950"]
    assert "2 of 9 runs have no result" in page.text
    assert page.labels == [
        "MRR, valid of 7 runs by generator, optimizer.lr, seed. The best has 0.4200.",
    ]
    assert "Sweep <sweep>" in page.text and "typed <b>" in page.text


def test_a_scorecard_takes_a_sweep_and_makes_nothing_up(sweep):
    ((block, lines),) = blocks(read_sweep_results(sweep)).items()
    assert block == ("umls", "transe", 1, None)
    assert [(line.sampler, line.seeds) for line in lines] == [
        ("kbgan, optimizer.lr=0.1", 1),
        ("kbgan, optimizer.lr=0.01", 2),
        ("uniform, optimizer.lr=0.1", 2),
        ("uniform, optimizer.lr=0.01", 2),
    ]
    assert lines[0].errors == ["seed 1: the run did not end"]
    assert lines[2].means == pytest.approx(
        {"valid_mrr": 0.315, "test_mrr": 0.315, "test_hits10": 0.515, "rising": 1, "epochs": 3, "seconds": 2}
    )
    assert lines[1].means["to_target"] == 1  # of 0.378: the first validation


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "0").mkdir()
    with pytest.raises(InputError, match=r"sweep must be the folder of a sweep, with a folder for each run, got "):
        read_sweep(tmp_path)
