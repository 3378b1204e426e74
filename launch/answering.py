"""What the commands that ask a trained model share: their ranks, the model, and where the answers go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from answers.completions import Completions
from answers.queries import QueryIds
from graph.errors import InputError
from graph.slots import Slots
from launch.built_run import Run
from launch.errors import one_line_errors
from launch.last_line import is_rank
from launch.options import check_values
from launch.paths import absolute_lines, make_absolute
from launch.ranks import MOST_RANKS, run_ranks
from launch.saved_run import load_run
from launch.trained_options import AnswerOptions, SavedRunOptions
from reporting.records import Records, check_records_file, text_table, write_records
from trainer.runtime import Runtime


@dataclass(frozen=True)
class Answered:
    """The answers of a command, and what is to be said about them."""

    records: Records
    notes: Sequence[str] = field(default_factory=list)
    """Texts that are printed after the table, or after the line that says where the answers are."""


@dataclass(frozen=True)
class Asked:
    """A trained model that can be asked."""

    run: Run
    checkpoint: Path
    completions: Completions
    ids: QueryIds

    @classmethod
    def load(
        cls,
        options: SavedRunOptions,
        runtime: Runtime,
        *,
        other_graph: str | None = None,
        storage: str | None = None,
    ) -> "Asked":
        """Loads the model. Collective. See `load_run` for the arguments and the errors."""
        run, checkpoint = load_run(options, runtime, other_graph=other_graph, storage=storage)
        slots = Slots.of(run.context.statistics)
        return cls(run, checkpoint, Completions(run.discriminator, run.all_known, slots, runtime), QueryIds(run.graph))

    @property
    def source(self) -> str:
        """Where the answers come from, to be printed."""
        return f"checkpoint: {self.checkpoint}"


def run_answer(config: DictConfig, script: str, answer: Callable[[Any, Runtime], Answered]) -> None:
    """Runs a command as one rank, or starts its ranks; rank 0 prints or writes the answers.

    Args:
        config: the options of the command.
        script: the file of the command.
        answer: makes the answers. Collective.
    """
    with one_line_errors():
        check_values(config)
        make_absolute(config)
        options: Any = OmegaConf.to_object(config)
        check_answer_options(options)
        if options.launch.ranks > 1 and not is_rank():
            lines = absolute_lines(list(HydraConfig.get().overrides.task), config)
            ending = run_ranks(Path(script), lines, Path(), options.launch.ranks)
            if ending.error is not None or ending.stopped_by is not None:
                raise SystemExit(1 if ending.stopped_by is None else 128 + ending.stopped_by)
            return
        runtime = Runtime.start(device=options.launch.device, timeout_seconds=options.launch.timeout_seconds)
        _give(answer(options, runtime), options.out, runtime)
        runtime.close()


def check_answer_options(options: AnswerOptions) -> None:
    """Checks the options that all commands share, before a model is loaded. Raises InputError."""
    if not 1 <= options.launch.ranks <= MOST_RANKS:
        raise InputError(f"launch.ranks must be at least 1 and at most {MOST_RANKS}, got {options.launch.ranks}")
    at_least_1("k", options.k)
    if options.out is not None:
        check_records_file(Path(options.out))


def at_least_1(key: str, value: int | None) -> None:
    """Raises InputError for an option below 1; None is right."""
    if value is not None and value < 1:
        raise InputError(f"{key} must be at least 1, got {value}")


def one_of(key: str, value: str | None, choices: Sequence[str]) -> None:
    """Raises InputError for an option that is none of the choices; None is right."""
    if value is not None and value not in choices:
        raise InputError(f"{key} must be {' or '.join(choices)}, got {value!r}")


def _give(answered: Answered, out: str | None, runtime: Runtime) -> None:
    """Prints or writes the answers. Collective, because they may be computed while they are read."""
    if not runtime.is_first:
        for _ in answered.records.lines:
            pass
        return
    if out is None:
        print(text_table(answered.records))
    else:
        replaced = ", in place of the file that was there" if Path(out).exists() else ""
        print(f"wrote {write_records(Path(out), answered.records):,} lines to {out}{replaced}")
    for note in answered.notes:
        print(note)
