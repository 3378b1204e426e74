"""Writes a page about a run, `python launch/report.py run=RUN`, or about a sweep, `python launch/report.py sweep=DIR`.

The page of a run has its options, curves and results, its metrics by relation, the hardest negatives by name, and a map
of its entities. That of a sweep has a table of all runs, with means over seeds, and how much each option mattered.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from graph.errors import InputError
from launch.arguments import for_shell, override
from launch.built_run import Run
from launch.errors import one_line_errors
from launch.hardest import HardestNegatives
from launch.last_line import is_rank
from launch.main import main_of
from launch.options import check_values
from launch.paths import make_absolute
from launch.saved_run import load_run
from launch.splits import needs_split
from launch.sweep_report import report_sweep
from launch.this_command import this_command
from launch.trained_options import saved_run
from reporting.entity_map import draw_map
from reporting.files import write_text
from reporting.page import Heading
from reporting.ranking_table import FILTERS
from reporting.relation_ranks import by_class, by_relation
from reporting.run_page import Findings, Ranked, as_page, read_record
from trainer.runtime import Runtime


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="report")
def run_job(config: DictConfig) -> None:
    """Writes the page."""
    with one_line_errors():
        if is_rank():
            raise InputError(f"report runs in one process; type: {for_shell(*this_command(), *sys.argv[1:])}")
        check_values(config)
        if (config.run is None) == (config.sweep is None):
            got = "neither" if config.run is None else f"run={config.run} and sweep={config.sweep}"
            raise InputError(
                "run or sweep must say what the page is about, as in run=outputs/... or sweep=multirun/..., and not "
                f"both, got {got}"
            )
        make_absolute(config)
        if config.sweep is not None:
            for key in ("out", "checkpoint"):
                if config[key] is not None:
                    raise InputError(f"{key} is of a run, and a sweep has none, got {config[key]}")
            print(report_sweep(Path(config.sweep), _typed()))
            return
        print(f"page: {_report_run(config)}")


def _typed() -> str:
    return for_shell(*this_command(), *sys.argv[1:])


def _report_run(config: DictConfig) -> Path:
    if config.split not in FILTERS:
        raise InputError(f"split must be one of {', '.join(FILTERS)}, got {config.split!r}")
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=1.0)
    folder = Path(config.run)
    if (folder / "multirun.yaml").is_file() and not (folder / "config.yaml").is_file():
        raise InputError(f"run={folder} is a sweep; type {for_shell(override('sweep', str(folder)))}")
    record = read_record(folder)  # before anything that takes long
    run, checkpoint = load_run(saved_run(config), runtime)
    findings = Findings(
        graph=run.graph.summary(),
        ranked=_ranked(config, run, checkpoint),
        negatives=HardestNegatives.of(run, run.all_known, marked=("hidden",)).find(),
        entity_map=draw_map(run.discriminator, run.graph),
    )
    command = for_shell("advkge", "train", *record.options)
    out = folder / "report.html" if config.out is None else Path(config.out)
    write_text(out, as_page(Heading.of(_typed()), record, command, findings))
    return out


def _ranked(config: DictConfig, run: Run, checkpoint: Path) -> Ranked | None:
    """The chosen split as the run's model ranks it; None if the graph has only train triples."""
    graph, split = run.graph, config.split
    if not len(graph.valid) and not len(graph.test):
        return None
    needs_split(graph, split, f"split={split}")
    triples = getattr(graph, split)
    known = run.all_known if split == "test" else run.known_in_validation
    ranks = run.evaluator(known).ranks(run.discriminator, triples)
    statistics = run.context.statistics
    return Ranked(
        split,
        FILTERS[split],
        checkpoint.name,
        ranks.metrics(),
        by_class(ranks, triples, statistics),
        by_relation(ranks, triples, graph.relation_names, statistics),
    )


def main() -> None:
    """The command."""
    main_of("report", run_job)


if __name__ == "__main__":
    main()
