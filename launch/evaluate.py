"""Ranks a trained run again: `python launch/evaluate.py run=DIR split=valid`, or the same under torchrun."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import json
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from launch import schema
from launch.arguments import read_arguments
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.help import help_of
from launch.options import check_values
from launch.paths import make_absolute
from launch.ranks import refuse_sweep
from launch.saved_run import load_run
from launch.splits import needs_split
from reporting.files import write_text
from reporting.ranking_table import results_table
from trainer.runtime import Runtime


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="evaluate")
@record
def run_job(config: DictConfig) -> None:
    """Prints the table; writes nothing unless `out` says where."""
    with one_line_errors():
        make_absolute(config)
        evaluate(config)


def evaluate(config: DictConfig) -> None:
    """Loads, ranks and reports, as one rank. Collective."""
    check_values(config)
    for key, choices in (("split", ("valid", "test")), ("filter", ("default", "all"))):
        if config[key] not in choices:
            raise InputError(f"{key} must be one of {', '.join(choices)}, got {config[key]!r}")
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=config.launch.timeout_seconds)
    run, checkpoint = load_run(schema.saved_run(config), runtime)
    needs_split(run.graph, config.split, f"split={config.split}")
    sees_test = config.split == "test" or config.filter == "all"
    evaluator = run.evaluator(run.all_known if sees_test else run.known_in_validation)
    metrics = evaluator.evaluate(run.discriminator, getattr(run.graph, config.split)).as_dict()
    if runtime.is_first:
        _report(config, checkpoint, metrics, "train+valid+test" if sees_test else "train+valid")
    runtime.close()


def _report(config: DictConfig, checkpoint: Path, metrics: dict[str, dict[str, float]], known: str) -> None:
    if config.out is not None:
        result: dict[str, Any] = {"run": config.run, "checkpoint": checkpoint.name, "filter": known}
        write_text(Path(config.out), json.dumps({**result, config.split: metrics}, indent=1))
    print(results_table({config.split: metrics}, {config.split: known}))
    print(f"checkpoint: {checkpoint}\nfiltered by: {known}")


def main() -> None:
    """The command."""
    with unread_output_dropped():
        schema.register()
        with one_line_errors():
            refuse_sweep(sys.argv[1:], alone=True)
            arguments = read_arguments(sys.argv[1:])
            if arguments.wants_help:
                print(help_of("evaluate"))
                return
            sys.argv[1:] = arguments.as_list()
        with one_line_config_errors("evaluate"):
            run_job()


if __name__ == "__main__":
    main()
