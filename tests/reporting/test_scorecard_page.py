"""What a scorecard makes of the folders of its cells: figures, means over seeds, plots and a page."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest

from launch.cells import find_cells
from reporting.page import Heading
from reporting.scorecard_cell import read_result
from reporting.scorecard_columns import FIGURES
from reporting.scorecard_page import as_page
from reporting.scorecard_plots import draw_plots, scorecard_plots
from reporting.scorecard_table import as_csv, as_markdown, blocks, mean_places
from tests.pages import Page
from tests.scorecard_cells import make_cell


@pytest.fixture
def made(tmp_path) -> Path:
    for sampler, mrrs in (("uniform", (0.2, 0.3)), ("kbgan", (0.4, 0.5)), ("broken", (None, None))):
        for seed, mrr in enumerate(mrrs):
            make_cell(tmp_path, sampler, seed, mrr)
    return tmp_path


def test_figures_of_a_cell_are_means_over_its_last_stage(made):
    result = read_result(made / "cells/uniform-transe-synthetic-1")
    expected = {"valid_mrr": 0.3, "test_hits10": 0.6, "hardness": 0.15, "step_ms": 3.0, "peak_mb": 102.0}
    expected |= {"candidates": 1e6, "seconds": 2.5, "epochs": 4}
    assert {key: result.figures[key] for key in expected} == pytest.approx(expected)
    assert set(result.figures) == set(FIGURES)
    assert [(moment.candidates, moment.mrr) for moment in result.moments] == [(5e5, 0.15), (1e6, 0.3)]


def test_a_cell_that_validated_a_sample_is_read(made):
    cell = made / "cells/uniform-transe-synthetic-1"
    whole = read_result(cell)
    metrics = cell / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("valid/mrr", "valid_sample/mrr"))
    result = read_result(cell)
    assert result.figures == whole.figures
    assert [(moment.mrr, moment.sampled) for moment in result.moments] == [(0.15, True), (0.3, True)]
    assert not any(moment.sampled for moment in whole.moments)


def test_a_cell_whose_graph_has_no_valid_split_says_so(tmp_path):
    cell = make_cell(tmp_path, "uniform", 0, 0.2)
    result = json.loads((cell / "result.json").read_text())
    (cell / "result.json").write_text(json.dumps({"test": result["test"], "seconds": 1.0}))
    assert read_result(cell).error == "its graph has no valid or no test triples, which samplers are compared by"


def test_seeds_become_means_and_spreads_best_first(made):
    results = [read_result(cell) for cell in find_cells(made)]
    ((block, lines),) = blocks(results).items()
    assert block == ("synthetic", "transe", 1, None)
    assert [(line.sampler, line.seeds) for line in lines] == [("kbgan", 2), ("uniform", 2), ("broken", 0)]
    assert lines[1].means["valid_mrr"] == pytest.approx(0.25)
    assert lines[1].spreads["valid_mrr"] == pytest.approx(stdev([0.2, 0.3]))
    assert lines[2].errors == ["seed 0: no <memory> left", "seed 1: no <memory> left"]
    table = as_markdown(blocks(results))
    assert "0.2500 ± 0.0707" in table
    assert "- broken, seed 1: no <memory> left" in table
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert [(row["sampler"], row["seed"], row["valid_mrr"]) for row in rows] == [
        *(("broken", str(seed), "") for seed in (0, 1)),
        *(("kbgan", str(seed), str(mrr)) for seed, mrr in enumerate((0.4, 0.5))),
        *(("uniform", str(seed), str(mrr)) for seed, mrr in enumerate((0.2, 0.3))),
    ]
    assert rows[0]["error"] == "no <memory> left"


def test_generality_is_the_mean_place(made):
    for sampler, mrr in (("uniform", 0.9), ("kbgan", 0.1), ("extra", 0.5)):
        make_cell(made, sampler, 0, mrr, discriminator="complex")
    places = mean_places(blocks(read_result(cell) for cell in find_cells(made)))
    assert places == {"uniform": (1.5, 2), "extra": (2.0, 1), "kbgan": (2.0, 2)}


def test_numbers_of_negatives_are_compared_apart_and_drawn_as_one_curve(tmp_path):
    for number, mrr in ((4, 0.3), (1, 0.2), (64, 0.25)):
        make_cell(tmp_path, "uniform", 0, mrr, num_negatives=number)
    make_cell(tmp_path, "kbgan", 0, 0.4, num_negatives=4)
    make_cell(tmp_path, "kbgan", 0, None, num_negatives=64)
    results = [read_result(cell) for cell in find_cells(tmp_path)]
    lines = blocks(results)
    assert {block.num_negatives: [line.sampler for line in part] for block, part in lines.items()} == {
        1: ["uniform"],
        4: ["kbgan", "uniform"],
        64: ["uniform", "kbgan"],
    }
    assert "transe on synthetic, 64 negatives" in as_markdown(lines)
    (plot, *_) = draw_plots(results)
    assert plot.name == "mrr_by_negatives"
    said = "transe on synthetic: kbgan is best with 4, at 0.4, uniform is best with 4, at 0.3."
    assert plot.alt == f"validation MRR by negatives of each positive. {said}"
    assert [row["num_negatives"] for row in csv.DictReader(io.StringIO(as_csv(results)))] == ["4", "64", "1", "4", "64"]


def page_of(results, plots, heading: Heading | None = None) -> Page:
    page = Page(as_page(heading or Heading("typed", {}, "now"), results, plots))
    page.check()
    return page


def test_the_page_needs_nothing_else(made):
    results = [read_result(cell) for cell in find_cells(made)]
    plots = draw_plots(results)
    page = page_of(results, plots, Heading("python launch/scorecard.py <typed>", {"commit": "abc"}, "now"))
    assert len(page.labels) == len(plots) == 6
    assert "validation MRR by seconds of training steps. transe on synthetic: kbgan ends at 0.45" in page.labels[1]
    for text in ("0.4500", "± 0.0707", "2 of 6 runs failed", "no <memory> left", "<typed>", "some_option_of_kbgan"):
        assert text in page.text
    assert all(">kbgan" in plot.svg for plot in plots)  # text of plots is text


def test_hostile_names_are_text_on_the_page(made):
    hostile = """</style></td><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;$_"""
    results = [read_result(cell) for cell in find_cells(made)]
    results = [replace(each, identity=each.identity | {"sampler": hostile, "graph": hostile}) for each in results]
    results[0] = replace(results[0], error=hostile)
    page = page_of(results, draw_plots(results), Heading(hostile, {hostile: hostile}, hostile))
    # The summary (graph, time), failure (three), card, table, options, facts.
    assert page.text.count(hostile) >= 9


def test_a_page_of_failures_alone(tmp_path):
    results = [read_result(make_cell(tmp_path, "broken", 0, None))]
    assert draw_plots(results) == []
    assert "1 of 1 runs failed" in page_of(results, []).text


def test_seeds_are_one_curve_in_a_band(made):
    results = [read_result(cell) for cell in find_cells(made)]
    curves = next(plot for plot in scorecard_plots(results) if plot.name == "mrr_by_candidates")
    zero, one = (result for result in results if result.identity["sampler"] == "uniform")
    x, y, wide = curves.of([zero, one])
    assert (x, y) == (pytest.approx([0.5, 1.0]), pytest.approx([0.125, 0.25]))
    assert wide == pytest.approx([stdev([0.1, 0.15]), stdev([0.2, 0.3])])
    # Seed 1 was validated once more, after an epoch that seed 0 was not.
    more = replace(one, moments=[replace(one.moments[0], epoch=0), *one.moments])
    assert curves.of([zero, more]) == (x, y, wide)


def test_a_sampler_is_timed_to_an_mrr_that_is_good_for_all(made):
    results = [read_result(cell) for cell in find_cells(made)]
    ((_, (kbgan, uniform, _)),) = blocks(results).items()
    assert kbgan.target == pytest.approx(0.9 * 0.45)
    # Seed 0 of KBGAN ends at .4 and never reaches .405, so there is no mean time.
    assert "to_target" not in kbgan.means | uniform.means
    (only, *_) = blocks([each for each in results if each.identity["seed"] == 1])[kbgan_block := results[0].block]
    assert (only.sampler, only.target, only.means["to_target"]) == ("kbgan", pytest.approx(0.45), 2.0)
    assert "Target: validation MRR 0.405." in as_markdown({kbgan_block: [kbgan, uniform]})


def test_cards_name_what_is_fast_and_what_still_rises(made):
    results = [read_result(cell) for cell in find_cells(made) if cell.name.endswith("-1")]
    text = " ".join(page_of(results, []).text.split())
    assert "Best model kbgan 0.5000 validation MRR, still rising" in text
    assert "Soonest at a good MRR kbgan 2 s of training to validation MRR 0.450" in text
    assert "Fastest step kbgan, uniform 3.0 ms a step" in text
    assert "↗ still rising" in text
