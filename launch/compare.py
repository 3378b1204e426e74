"""Compares trained runs of one graph: `python launch/compare.py 'runs=[RUN,RUN]'`.

It ranks the same triples by each run and shows the metrics side by side, their differences with confidence intervals,
and the options that differ.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import DictConfig

from graph.errors import InputError
from launch.arguments import for_shell
from launch.errors import one_line_errors
from launch.last_line import is_rank
from launch.main import main_of
from launch.options import check_values
from launch.paths import absolute, make_absolute
from launch.saved_run import load_run, trained_on
from launch.splits import needs_split
from launch.texts import shortened
from launch.this_command import this_command
from launch.trained_options import SavedRunOptions, graph_place
from reporting.comparison import Comparison, as_csv, as_json, as_text, compare
from reporting.comparison_page import as_page
from reporting.files import write_text
from reporting.page import Heading
from reporting.ranking_table import FILTERS
from reporting.run_files import read_config
from trainer.evaluate import TripleRanks
from trainer.runtime import Runtime

_FEWEST_RESAMPLES, _MOST_RESAMPLES = 100, 1_000_000
_WRITERS: dict[str, Callable[[Comparison], str]] = {
    ".html": lambda comparison: as_page(Heading.of(_typed()), comparison),
    ".json": as_json,
    ".csv": as_csv,
}


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="compare")
def run_job(config: DictConfig) -> None:
    """Prints the tables; writes nothing unless `out` says where."""
    with one_line_errors():
        if is_rank():
            raise InputError(f"compare runs in one process; type: {for_shell(*this_command(), *sys.argv[1:])}")
        check_values(config)
        _check(config)
        make_absolute(config)
        comparison = _compare(config)
        if config.out is not None:
            out = Path(config.out)
            write_text(out, _WRITERS[out.suffix](comparison))
        print(as_text(comparison))


def _typed() -> str:
    return for_shell(*this_command(), *sys.argv[1:])


def _check(config: DictConfig) -> None:
    runs = list(config.runs or [])
    if len(runs) < 2 or len(set(runs)) < len(runs):
        raise InputError(f"runs must name two or more run folders, each once, as in runs=[A,B], got {runs}")
    if config.split not in FILTERS:
        raise InputError(f"split must be one of {', '.join(FILTERS)}, got {config.split!r}")
    if not _FEWEST_RESAMPLES <= config.resamples <= _MOST_RESAMPLES:
        raise InputError(
            f"resamples must be at least {_FEWEST_RESAMPLES} and at most {_MOST_RESAMPLES}, got {config.resamples}"
        )
    if config.seed < 0:
        raise InputError(f"seed must be at least 0, got {config.seed}")
    if config.out is not None and Path(config.out).suffix not in _WRITERS:
        raise InputError(f"out must end in one of {', '.join(_WRITERS)}, got {config.out}")


def _compare(config: DictConfig) -> Comparison:
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=1.0)
    place = graph_place(config)
    options = [SavedRunOptions(absolute("runs", run), config.checkpoint, place) for run in config.runs]
    graphs = {each.run: trained_on(each, runtime) for each in options}  # before any run is ranked
    for run, graph in graphs.items():
        if graph != next(iter(graphs.values())):
            raise InputError(
                f"runs must be of one graph: {next(iter(graphs))} was trained on "
                f"{_graph_of(next(iter(graphs)))} (fingerprint {next(iter(graphs.values()))}), {run} on "
                f"{_graph_of(run)} (fingerprint {graph})"
            )
    folders = [Path(str(each.run)) for each in options]
    ranks: dict[str, TripleRanks] = {}
    name = ""
    for each, shown in zip(options, _names(folders), strict=True):
        run, _ = load_run(each, runtime)
        name = run.graph.name
        needs_split(run.graph, config.split, f"split={config.split}")
        known = run.all_known if config.split == "test" else run.known_in_validation
        ranks[shown] = run.evaluator(known).ranks(run.discriminator, getattr(run.graph, config.split))
    return compare(
        ranks,
        [read_config(folder) for folder in folders],
        graph=name,
        split=config.split,
        resamples=config.resamples,
        seed=config.seed,
    )


def _graph_of(run: str | None) -> str:
    """What a run's config says of its graph: its name, or its folder."""
    graph = read_config(Path(str(run))).get("graph")
    named = graph if isinstance(graph, dict) else {}
    return shortened(named.get("name") or named.get("path") or str(named.get("_target_")).rpartition(".")[2])


def _names(folders: list[Path]) -> list[str]:
    """The last part of each folder's path, or as many parts as tell them apart."""
    for parts in range(1, 1 + max(len(folder.parts) for folder in folders)):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def main() -> None:
    """The command."""
    main_of("compare", run_job)


if __name__ == "__main__":
    main()
