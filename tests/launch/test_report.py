"""report.py and compare.py as a user runs them, and their pages as a browser shows them."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from launch import compare, prepare, report
from launch.cells import find_cells
from reporting.page import Heading
from reporting.run_files import read_metrics
from reporting.scorecard_cell import read_result
from reporting.scorecard_page import as_page
from reporting.scorecard_plots import draw_plots
from tests.pages import Page, shown_in_chromium
from tests.scorecard_cells import make_cell
from tests.sweep_folders import make_sweep
from trainer.checkpoint_files import digest_of


@pytest.fixture(scope="session")
def reported(shell, finished, tmp_path_factory) -> Path:
    """The page of the run that tests share."""
    page = tmp_path_factory.mktemp("report") / "page.html"
    script = Path(report.__file__)
    outcome = shell([script, f"run={finished}", f"out={page}", "launch.device=cpu"], folder=page.parent)
    assert outcome.code == 0, outcome.errors
    assert outcome.output == f"page: {page}\n"
    return page


def test_the_page_of_a_run_has_what_its_files_say(reported, finished):
    page = Page(reported.read_text())
    page.check()
    result = json.loads((finished / "result.json").read_text())
    names = {"both": "both sides", "head": "heads", "tail": "tails"}
    rows = {row[0]: row[1:] for row in page.tables["Results"][1:]}
    for split in ("valid", "test"):
        for side, name in names.items():
            values = result[split][side]
            expected = [f"{values[key]:.{digits}f}" for key, digits in (("mrr", 4), ("mean_rank", 1), ("hits@1", 4))]
            assert rows[f"{split}, {name}"][:3] == expected
            assert rows[f"{split}, {name}"][-1] == str(values["count"])
    # Ranked again by triple, and the same in sum.
    both, triples = result["test"]["both"], result["test"]["both"]["count"] // 2
    assert f"MRR {both['mrr']:.4f}, Hits@10 {both['hits@10']:.4f}." in page.text
    relations = page.tables["By relation"][2:]
    assert sum(int(row[3].replace(",", "")) for row in relations) == triples
    mean = sum(int(row[3].replace(",", "")) * float(row[4]) for row in relations) / triples
    assert mean == pytest.approx(both["mrr"], abs=6e-4)
    for line in yaml.safe_load((finished / "overrides.yaml").read_text()):
        assert line in page.text
    assert result["made_by"]["commit"] in page.text


def test_the_curves_of_a_run_end_where_its_metrics_do(reported, finished):
    page = Page(reported.read_text())
    for stage in ("pretrain_generator", "pretrain_discriminator", "adversarial"):
        assert f"Stage {stage}" in page.text
    lines = [line for line in read_metrics(finished / "metrics.jsonl") if line["stage"] == "adversarial"]
    for key, told in (("loss", "loss, mean of a batch"), ("generator/entropy", "entropy of a query's draws, nats")):
        (*_, value) = [line[key] for line in lines if key in line]
        assert any(label.startswith(told) and f"to {value:.3g} at step" in label for label in page.labels)
    assert any(label.startswith("Principal components of 128 entities") for label in page.labels)


def test_hard_negatives_are_no_known_facts_and_stand_in_the_row_of_their_triple(reported, finished):
    page = Page(reported.read_text())
    rows = page.tables["Hardest negatives"][1:]
    assert len(rows) == 12
    assert sum(row[0].startswith("(?, ") for row in rows) == 6
    scored = re.findall(r"score (-?\d+\.\d{3})(, above the answer)?", page.text)
    assert len(scored) == 36
    for number, (_, answer, positive, *negatives) in enumerate(rows):
        assert len(negatives) == 3 and answer not in negatives
        of_triple = scored[3 * number : 3 * number + 3]
        scores = [float(score) for score, _ in of_triple]
        assert scores == sorted(scores, reverse=True)
        assert all(bool(above) == (float(score) > float(positive)) or score == positive for score, above in of_triple)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "run or sweep must say what the page is about, as in run=outputs/... or sweep=multirun/..., and not both"),
        (["run=a", "sweep=b"], "run or sweep must say what the page is about"),
        (["run=/nowhere"], "run must be a run folder, one with a config.yaml, got /nowhere"),
        (["run={finished}", "split=train"], "split must be one of valid, test, got 'train'"),
        (["sweep={finished}", "out=page.html"], "out is of a run, and a sweep has none, got "),
        (["sweep=/nowhere"], "sweep must be the folder of a sweep, with a folder for each run, got /nowhere"),
    ],
)
def test_one_line_says_what_is_wrong(wrong, message, command, finished):
    outcome = command(report, *(word.format(finished=finished) for word in wrong))
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", '{"step": 1, "stage": 2}\n', "metrics.jsonl, line 1: it must have a step and the name of a"),
        (
            "metrics.jsonl",
            "\n".join(json.dumps({"step": 1, "stage": f"s{number}"}) for number in range(11)),
            "copy/metrics.jsonl must have at most 10 stages, got 11",
        ),
        (
            "metrics.jsonl",
            json.dumps({"step": 1, "stage": "s"} | {f"k{number}": 1 for number in range(61)}),
            "copy/metrics.jsonl must have at most 60 metrics that no run of this project has, got 61, such as 'k0'",
        ),
        ("result.json", '{"valid": {}, "test": 3}', "result.json: valid.both.mrr must be a finite number, got None"),
        ("result.json", '{"made_by": 3}', "result.json: made_by must be fields by name, got 3"),
        ("overrides.yaml", "{a: 1}", "overrides.yaml is damaged: it must be a list of options, got {'a': 1}"),
    ],
)
def test_a_damaged_file_is_named(file, content, message, command, finished, tmp_path):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    (copy / file).write_text(content)
    outcome = command(report, f"run={copy}")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert message in outcome.errors
    assert not (copy / "report.html").exists()


def test_a_run_that_has_not_ended_has_a_page_too(command, finished, tmp_path):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    (copy / "result.json").unlink()
    (copy / "metrics.jsonl").write_text(
        json.dumps({"step": 3, "stage": "<b>$x", "loss": 1.0, "k<i>": 2, "digest": "a"})
    )
    assert command(report, f"run={copy}", "split=valid").code == 0
    page = Page((copy / "report.html").read_text())
    page.check()
    assert "not finished" in page.text
    assert "Stage <b>$x" in page.text and "k<i>" in page.text
    assert "Ranked for this page: valid" in page.text and "Results" not in page.tables


def test_a_sweep_gets_its_table_page_and_plot(command, tmp_path):
    folder = make_sweep(tmp_path / "sweep")
    outcome = command(report, "sweep=sweep")
    assert outcome.code == 0, outcome.errors
    assert "0.3950 ± 0.0071" in outcome.output
    assert outcome.output.endswith(f"page: {folder / 'sweep.html'}\n")
    text = " ".join(Page((folder / "sweep.html").read_text()).text.split())
    assert "best run 6 its command advkge train generator=kbgan optimizer.lr=0.1 seed=0 " in text
    assert {"sweep.html", "sweep.csv", "sweep.svg"} <= {path.name for path in folder.iterdir()}


@pytest.fixture
def other(finished, tmp_path) -> Path:
    """A copy of the run whose model is that of an earlier stage, and so a worse one."""
    copy = Path(shutil.copytree(finished, tmp_path / "earlier"))
    shutil.copy(copy / "checkpoints/best_pretrain_discriminator.json", copy / "checkpoints/best_adversarial.json")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("log_every: 2", "log_every: 3"))
    return copy


def test_runs_are_compared_triple_by_triple(command, finished, other, tmp_path):
    words = [f"runs=[{finished},{other}]", "resamples=200"]
    outcome = command(compare, *words, f"out={tmp_path}/found.json")
    assert outcome.code == 0, outcome.errors
    found = json.loads((tmp_path / "found.json").read_text())
    ours, theirs = (found["metrics"][folder.name] for folder in (finished, other))
    expected = json.loads((finished / "result.json").read_text())["test"]["both"]
    assert [ours[key]["value"] for key in ours] == pytest.approx([expected[key] for key in ours])
    for key, interval in found["differences"][other.name].items():
        assert interval["value"] == pytest.approx(theirs[key]["value"] - ours[key]["value"])
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert found["options"] == {"trainer.log_every": ["2", "3"]}
    assert f"{ours['mrr']['value']:.4f} [{ours['mrr']['low']:.4f}, {ours['mrr']['high']:.4f}]" in outcome.output
    assert "trainer.log_every  2 | 3" in outcome.output
    assert "(200 resamples, seed 0)" in outcome.output
    assert command(compare, *words, f"out={tmp_path}/found.csv").output == outcome.output
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert [row["difference"] == "" for row in rows] == [True] * 5 + [False] * 5
    assert float(rows[5]["low"]) == theirs["mrr"]["low"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "runs must name two or more run folders, each once, as in runs=[A,B], got []"),
        (["runs=[a,a]"], "runs must name two or more run folders, each once, as in runs=[A,B], got ['a', 'a']"),
        (["runs=[a,b]", "resamples=10"], "resamples must be at least 100 and at most 1000000, got 10"),
        (["runs=[a,b]", "seed=-1"], "seed must be at least 0, got -1"),
        (["runs=[a,b]", "out=a.txt"], "out must end in one of .html, .json, .csv, got "),
        (["runs=[a,b]", "split=train"], "split must be one of valid, test, got 'train'"),
        (["runs=[/a,/b]"], "run must be a run folder, one with a config.yaml, got /a"),
    ],
)
def test_one_line_says_why_nothing_is_compared(wrong, message, command):
    outcome = command(compare, *wrong)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith(f"error: {message}")


def test_runs_of_two_graphs_are_not_compared(command, finished, other):
    for file in other.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(file.read_text()) | {"graph": "0" * 16}
        del manifest["digest"]
        file.write_text(json.dumps({"digest": digest_of(manifest), **manifest}))
    outcome = command(compare, f"runs=[{finished},{other}]")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith(f"error: runs must be of one graph: {finished} was trained on 'family_graph' (")


def test_a_page_needs_one_run_or_one_sweep(command, tmp_path):
    assert command(report).errors.endswith("and not both, got neither\n")
    sweep = make_sweep(tmp_path / "sweep")
    assert command(report, f"run={sweep}").errors == f"error: run={sweep} is a sweep; type sweep={sweep}\n"


@pytest.mark.slow
def test_pages_read_well_in_windows_of_a_telephone_and_a_desk(command, reported, finished, other, tmp_path):
    for sampler, mrr in (("uniform", 0.2), ("kbgan", 0.5), ("a_sampler_with_a_very_long_name_of_its_own", 0.3)):
        make_cell(tmp_path, sampler, 0, mrr)
    results = [read_result(cell) for cell in find_cells(tmp_path)]
    assert command(report, f"sweep={make_sweep(tmp_path / 'sweep')}").code == 0
    assert command(compare, f"runs=[{finished},{other}]", f"out={tmp_path}/compared.html").code == 0
    facts = (Path(report.__file__).parents[1] / "examples" / "countries.csv").read_text()
    raw = tmp_path / "countries.csv"
    raw.write_text(facts.replace(",borders,", ",has_common_borders,"))  # a word that is wider than its column was once
    assert command(prepare, f"path={raw}", "graph.header=true", f"out={tmp_path / 'prepared'}").code == 0
    pages = {
        "statistics": (tmp_path / "prepared/statistics.html").read_text(),
        "run": reported.read_text(),
        "sweep": (tmp_path / "sweep/sweep.html").read_text(),
        "comparison": (tmp_path / "compared.html").read_text(),
        "scorecard": as_page(Heading("typed " * 50, {}, "now"), results, draw_plots(results)),
    }
    shown = shown_in_chromium(pages, (400, 1280), tmp_path)
    for (name, width), page in shown.items():
        assert (page.width, page.scroll_width) == (width, width), name
        assert sorted(page.column) == sorted(page.sorted), name
        assert page.broken == [], (name, width)
    table = shown["scorecard", 400]
    assert [name.split()[0] for name in table.column] == [
        "kbgan",
        "a_sampler_with_a_very_long_name_of_its_own",
        "uniform",
    ]
    assert table.sorted == table.column  # by MRR, the largest first
    by_rate = shown["sweep", 1280]
    assert by_rate.column == ["kbgan", "kbgan", "uniform", "uniform"]
    assert by_rate.sorted == ["kbgan", "uniform", "kbgan", "uniform"]
