"""The table of recipes' results."""

import json
from pathlib import Path

import pytest

from benchmarks.cells import keep, read_cells, read_published, write_page
from graph.errors import InputError

PUBLISHED = """
- {model: transe, graph: umls, mrr: 0.7, hits@10: 0.9, source: A}
- {model: rotate, graph: umls, mrr: 0.9, source: B}
"""


def run_folder(folder: Path, *options: str, mrr: float = 0.6) -> Path:
    folder.mkdir()
    ranked = {"both": {"mrr": mrr, "hits@10": 0.8}}
    result = {"valid": {"both": {"mrr": mrr / 2}}, "test": ranked, "seconds": 240.0, "seed": 0, "entity_numbers": 64}
    (folder / "result.json").write_text(json.dumps({**result, "made_by": {"commit": "abc", "processor": "a chip"}}))
    (folder / "overrides.yaml").write_text(json.dumps(list(options)))
    lines: list[dict[str, float | str]] = [{"step": 5, "epoch": 0, "loss": 1.0}]
    for step, (seconds, value) in enumerate([(50.0, 0.15), (120.0, 0.335)]):
        lines.append({"step": step, "epoch": step, "valid/both/mrr": value, "valid/both/hits@10": 0.5})
        lines[-1]["speed/seconds"] = seconds
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    (folder / "cells").mkdir(parents=True)
    (folder / "curves").mkdir()
    (folder / "published.yaml").write_text(PUBLISHED)
    (folder / "README.md").write_text("# Results\n<!-- table -->\nold\n<!-- end -->\nMore.\n")
    return folder


def test_a_run_becomes_a_row_beside_what_is_published(results: Path, tmp_path: Path):
    keep(run_folder(tmp_path / "run", "experiment=transe_umls", "graph.root=/somewhere"), results)
    (cell,) = read_cells(results)
    assert (cell.model, cell.graph) == ("transe", "umls")
    assert cell.seconds_to(0.5) == 120 and cell.seconds_to(0.68) is None
    write_page(results)
    page = (results / "README.md").read_text()
    assert page.startswith("# Results\n<!-- table -->\n| experiment") and page.endswith("<!-- end -->\nMore.\n")
    row = "| `transe_umls` | **0.6000** / 0.8000 | 0.700 / 0.900 A | -0.100 | 2 min | 4 min | 64 | 0 | abc | a chip |"
    assert row in page
    still_open = page.split(
        "Not run yet, with the published test MRR if there is one (the command above makes each): "
    )[1]
    assert "`rotate_umls` (0.900)" in still_open and "`rotate_codexm`" in still_open
    assert "transe_umls" not in still_open and "kbgan" not in still_open and "demo" not in still_open
    assert (results / "curves" / "umls.svg").is_file()


def test_a_later_run_takes_the_place_of_an_earlier_one(results: Path, tmp_path: Path):
    keep(run_folder(tmp_path / "first", "experiment=transe_umls"), results)
    keep(run_folder(tmp_path / "second", "experiment=transe_umls", mrr=0.75), results)
    write_page(results)
    assert "**0.7500** / 0.8000 | 0.700 / 0.900 A | reached |" in (results / "README.md").read_text()


def test_only_an_experiment_alone_is_a_result(results: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"must be a run of one experiment and nothing else, .* optimizer.lr=1"):
        keep(run_folder(tmp_path / "other", "experiment=transe_umls", "optimizer.lr=1"), results)
    with pytest.raises(InputError, match=r"is no run folder of a finished run: it has no result.json"):
        keep(tmp_path, results)


def test_what_is_published_names_its_source():
    for (model, graph), best in read_published(Path(__file__).parents[2] / "results").items():
        assert model and graph and 0 < best.mrr < 1 and best.source
