"""Compares samplers: `python launch/scorecard.py graph=... scorecard.generators=[uniform,kbgan]`.

Trains one run for each sampler, discriminator, graph and seed, one after the other, with the same budget, measures the
negatives during training, and writes a table, plots and a page. The same command with the same hydra.run.dir continues.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from graph.errors import InputError
from launch import schema
from launch.arguments import for_shell, key_of, override, read_arguments
from launch.budget import epochs_within
from launch.cells import Cell, find_cells, plan, refuse_others, run_cell
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.groups import settle_choices
from launch.help import help_of
from launch.last_line import is_rank
from launch.parts import instantiate, plain
from launch.paths import absolute_lines, make_absolute
from launch.plain_words import refuse_plain_words
from launch.ranks import prepare_arguments
from launch.splits import needs_splits
from launch.this_command import this_command
from launch.titles import title_of
from reporting.files import write_text
from reporting.page import Heading
from reporting.scorecard_cell import Result, read_result
from reporting.scorecard_columns import FIGURES
from reporting.scorecard_page import as_page
from reporting.scorecard_plots import draw_plots
from reporting.scorecard_sweep import read_sweep_results
from reporting.scorecard_table import as_csv, as_markdown, blocks
from trainer.loop import Stopped

log = logging.getLogger(__name__)
_failed_cells: list[str] = []


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="scorecard")
def run_job(config: DictConfig) -> None:
    """Makes one scorecard."""
    # The configs of cells are composed in here.
    with one_line_errors(), one_line_config_errors("train"):
        if is_rank():
            ranks = f"launch.ranks={os.environ['WORLD_SIZE']}"
            others = [word for word in sys.argv[1:] if not word.startswith(("launch.ranks=", "hydra/"))]
            raise InputError(f"a scorecard starts its ranks itself; type: {for_shell(*this_command(), ranks, *others)}")
        make_absolute(config)
        job = HydraConfig.get()
        folder = Path(job.runtime.output_dir)
        if config.scorecard.folders is not None:
            results = _read_all(config.scorecard.folders)
        else:
            results = _run_all(
                config, absolute_lines(list(job.overrides.task), config), dict(job.runtime.choices), folder
            )
        print(_write(results, folder))
        _track(config, results, folder)


def _read_all(folders: Sequence[str]) -> list[Result]:
    found = []
    for folder in folders:
        cells = find_cells(Path(folder))
        if not cells and not any(Path(folder).rglob("overrides.yaml")):
            raise InputError(f"scorecard.folders: {folder} holds no cell of a scorecard and no run of a sweep")
        found += [read_result(cell) for cell in cells] or read_sweep_results(Path(folder))
    return found


def _run_all(config: DictConfig, typed: list[str], chosen: Mapping[str, str], folder: Path) -> list[Result]:
    options = config.scorecard
    cells = plan(config, typed, chosen, folder)
    limit = {"budget": options.budget, "epochs": options.epochs}
    refuse_others(cells, limit)

    # First, so that an unknown option is reported before anything runs.
    runs = {_but_for_seed(cell): compose("train", [*_but_for_seed(cell)]) for cell in cells}

    left = [runs[_but_for_seed(cell)] for cell in cells if not cell.is_finished]
    needs_splits(left, ("valid", "test"), "a scorecard compares samplers by both")

    @cache
    def within_budget(lines: tuple[str, ...]) -> int:
        return epochs_within(runs[lines], int(options.budget))

    def find_epochs(cell: Cell) -> int:
        return within_budget(_but_for_seed(cell)) if options.epochs is None else options.epochs

    for number, cell in enumerate(cells, 1):
        if cell.is_finished:
            log.info("%d of %d: %s: was finished", number, len(cells), cell.name)
            continue
        log.info("%d of %d: %s", number, len(cells), cell.name)
        started = time.perf_counter()
        try:
            run_cell(cell, limit, options.validations, find_epochs)
        except Stopped as stopped:
            log.info("stopped by signal %d; go on with: %s", stopped.signal, _going_on(folder))
            raise SystemExit(128 + stopped.signal) from None
        result = read_result(cell.folder)
        if result.error is None:
            log.info("validation MRR %.4f, %.0f s", result.figures["valid_mrr"], time.perf_counter() - started)
        else:
            log.warning("failed: %s", result.error)
            _failed_cells.append(f"{cell.name}: {result.error}")
        if number < len(cells):
            _write([read_result(each.folder) for each in cells[:number]], folder)
    return [read_result(cell.folder) for cell in cells]


def _going_on(folder: Path) -> str:
    """The command that continues a scorecard: the same options and folder."""
    others = [word for word in sys.argv[1:] if key_of(word) != "hydra.run.dir"]
    return for_shell(*this_command(), override("hydra.run.dir", str(folder)), *others)


def _but_for_seed(cell: Cell) -> tuple[str, ...]:
    """The options that decide how many candidates a run scores."""
    return tuple(line for line in cell.options if not line.startswith(("seed=", "quality", "tracker")))


def _write(results: list[Result], folder: Path) -> str:
    """Writes all files of a scorecard; returns the table to print."""
    lines = blocks(results)
    table = as_markdown(lines)
    write_text(folder / "scorecard.csv", as_csv(results))
    write_text(folder / "scorecard.md", table)
    plots = draw_plots(results)
    for plot in plots:
        plot.write(folder / "plots")
    heading = Heading.of(for_shell(*this_command(), *sys.argv[1:]))
    write_text(folder / "scorecard.html", as_page(heading, results, plots))
    return f"{table}\npage: {folder / 'scorecard.html'}"


def _track(config: DictConfig, results: list[Result], folder: Path) -> None:
    if not config.trackers:
        return
    choices = dict(HydraConfig.get().runtime.choices)
    title = title_of(choices, folder, seed=config.seed, job_type="scorecard")
    rows: list[dict[str, Any]] = [
        {**result.identity, "error": result.error, **{key: result.figures.get(key) for key in FIGURES}}
        for result in results
    ]
    plots = {path.stem: path for path in sorted((folder / "plots").glob("*.svg"))}
    for tracker in (instantiate(each) for each in config.trackers.values()):
        tracker.start(folder, plain(config), title=title, run_id=None, from_step=0)
        tracker.show("scorecard", rows, plots)
        tracker.finish({})


def main() -> None:
    """The command."""
    with unread_output_dropped():
        _failed_cells.clear()
        schema.register()
        with one_line_errors():
            refuse_plain_words(sys.argv[1:], "scorecard")
            if read_arguments(sys.argv[1:]).wants_help:
                print(help_of("scorecard"))
                return
            sys.argv[1:] = prepare_arguments(settle_choices(sys.argv[1:], with_recipe=False))
        with one_line_config_errors("scorecard"):
            run_job()
        if _failed_cells:
            print("\n".join(f"error: {failure}" for failure in _failed_cells), file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
