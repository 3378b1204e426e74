"""Keeps runs of recipes as results, and makes the table of them: `python -m benchmarks.cells RUN ...`.

Each RUN is the run folder of one `experiment=NAME`. Its result and its validations are copied to results/cells/NAME.
Then results/README.md is written anew from all cells and from results/published.yaml. Without a RUN, only the table is
written.
"""

import argparse
import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from graph.errors import InputError
from launch.arguments import key_of
from launch.errors import one_line_errors
from reporting.files import write_text
from reporting.style import Look, as_svg, drawing, legend_below, looks
from trainer.strict_yaml import read_yaml

ROOT = Path(__file__).parents[1]
_HOME = ("hydra.run.dir", "graph.root", "graph.cache", "launch.ranks", "tracker")
"""Options that do not change what is trained."""
_SHARE = 0.95


@dataclass(frozen=True)
class Published:
    """The best published test figures of a model on a graph."""

    mrr: float
    hits10: float | None
    source: str


@dataclass(frozen=True)
class Cell:
    """A kept run."""

    name: str
    result: dict[str, Any]
    validations: list[dict[str, float]]

    @property
    def graph(self) -> str:
        """The part of the name after the model's."""
        return self.name.split("_", 1)[1]

    @property
    def model(self) -> str:
        """The part of the name before the graph's."""
        return self.name.split("_", 1)[0]

    def seconds_to(self, test_mrr: float) -> float | None:
        """Seconds of training steps until a test MRR was reached, as validation tells; None if never.

        Validation does not filter by test facts, so its MRR is lower. It is multiplied by what the two differ by at the
        end.
        """
        factor = self.result["test"]["both"]["mrr"] / self.result["valid"]["both"]["mrr"]
        return next((line["seconds"] for line in self.validations if line["mrr"] * factor >= test_mrr), None)


def keep(run: Path, results: Path) -> Path:
    """Copies what is kept of a run folder; returns the cell's folder.

    Raises:
        InputError: the run is no finished run of an experiment, or was given other options too.
    """
    if not (run / "result.json").is_file():
        raise InputError(f"{run} is no run folder of a finished run: it has no result.json")
    lines = read_yaml(run / "overrides.yaml")
    names = [line.split("=", 1)[1] for line in lines if key_of(line) == "experiment"]
    others = [line for line in lines if key_of(line) not in ("experiment", *_HOME)]
    if len(names) != 1 or others:
        raise InputError(f"{run} must be a run of one experiment and nothing else, it was given {' '.join(lines)}")
    folder = results / "cells" / names[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(run / "result.json", folder / "result.json")
    write_text(folder / "validations.csv", _validations(run / "metrics.jsonl"))
    return folder


def _validations(metrics: Path) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", "epoch", "seconds", "mrr", "hits@10"])
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        kind = "valid" if "valid/both/mrr" in record else "valid_sample"
        if f"{kind}/both/mrr" in record:
            values = [record[key] for key in (f"{kind}/both/mrr", f"{kind}/both/hits@10")]
            numbers = [f"{value:.4f}" for value in values]
            table.writerow([record["step"], record["epoch"] + 1, f"{record['speed/seconds']:.0f}", *numbers])
    return text.getvalue()


def read_cells(results: Path) -> list[Cell]:
    """All kept cells, by graph and then by model."""
    cells = []
    for folder in (results / "cells").iterdir():
        with (folder / "validations.csv").open() as file:
            lines = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]
        cells.append(Cell(folder.name, json.loads((folder / "result.json").read_text()), lines))
    return sorted(cells, key=lambda cell: (cell.graph, cell.model))


def read_published(results: Path) -> dict[tuple[str, str], Published]:
    """What is published, by model and graph."""
    entries = yaml.safe_load((results / "published.yaml").read_text())
    return {
        (entry["model"], entry["graph"]): Published(entry["mrr"], entry.get("hits@10"), entry["source"])
        for entry in entries
    }


def table(cells: Sequence[Cell], published: dict[tuple[str, str], Published]) -> str:
    """The cells as a table in Markdown, and the experiments that have no run."""
    heads = ["experiment", "test MRR / H@10", "published", "ours - published", "95 % of it", "all", "numbers a row"]
    heads += ["seed", "commit", "processor"]
    rows = [heads, ["---"] * len(heads)]
    for cell in cells:
        test = cell.result["test"]["both"]
        ours = f"**{test['mrr']:.4f}** / {test['hits@10']:.4f}"
        best = published.get((cell.model, cell.graph))
        theirs, verdict, early = "", "", ""
        if best is not None:
            theirs = f"{best.mrr:.3f} / {'' if best.hits10 is None else f'{best.hits10:.3f}'} {best.source}"
            verdict = "reached" if test["mrr"] >= best.mrr else f"{test['mrr'] - best.mrr:+.3f}"
            seconds = cell.seconds_to(_SHARE * best.mrr)
            early = "-" if seconds is None else _minutes(seconds)
        made = cell.result["made_by"]
        rows.append(
            [
                f"`{cell.name}`",
                ours,
                theirs,
                verdict,
                early,
                _minutes(cell.result["seconds"]),
                str(cell.result["entity_numbers"]),
                str(cell.result["seed"]),
                made["commit"],
                made["processor"],
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if still_open := _still_open(cells, published):
        lines += [
            "",
            "Not run yet, with the published test MRR if there is one (the command above makes each): "
            f"{', '.join(still_open)}.",
        ]
    return "\n".join(lines)


def _still_open(cells: Sequence[Cell], published: dict[tuple[str, str], Published]) -> list[str]:
    """The experiments of a model on a graph that have no run."""
    have = {cell.name for cell in cells}
    models = {path.stem for path in (ROOT / "conf" / "discriminator").iterdir()}
    names = []
    for name in sorted(path.stem for path in (ROOT / "conf" / "experiment").iterdir()):
        model, _, graph = name.partition("_")
        if model in models and name not in have:
            best = published.get((model, graph))
            names.append(f"`{name}`" if best is None else f"`{name}` ({best.mrr:.3f})")
    return names


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """A plot of validation MRR by time for each graph."""
    look = looks(sorted({cell.model for cell in cells}))  # a model looks alike on all graphs
    with drawing() as plt:
        return [_draw(plt, [cell for cell in cells if cell.graph == graph], look, folder) for graph in _graphs(cells)]


def _graphs(cells: Sequence[Cell]) -> list[str]:
    return sorted({cell.graph for cell in cells})


def _draw(plt: Any, cells: Sequence[Cell], look: Mapping[str, Look], folder: Path) -> Path:
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for cell in cells:
        minutes = [line["seconds"] / 60 for line in cell.validations]
        axis.plot(minutes, [line["mrr"] for line in cell.validations], label=cell.model, **look[cell.model].line)
    axis.set(xlabel="minutes of training steps", ylabel="validation MRR", title=cells[0].graph, xlim=(0, None))
    legend_below(figure, [axis])
    path = folder / f"{cells[0].graph}.svg"
    write_text(path, as_svg(figure))
    return path


def write_page(results: Path) -> None:
    """Puts the table and the plots between the two marks of results/README.md."""
    cells = read_cells(results)
    plots = draw(cells, results / "curves")
    page = results / "README.md"
    before, _, rest = page.read_text().partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end -->\n")
    pictures = "\n".join(f"![Validation MRR by time on {plot.stem}](curves/{plot.name})" for plot in plots)
    body = f"{table(cells, read_published(results))}\n\n{pictures}\n"
    write_text(page, f"{before}<!-- table -->\n{body}<!-- end -->\n{after}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.cells", description="The results of recipes, as a table.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders of experiments")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="the folder that keeps them")
    options = parser.parse_args()
    with one_line_errors():
        for run in options.runs:
            print(f"kept in {keep(run, options.results)}")
        write_page(options.results)


if __name__ == "__main__":
    main()
