"""The cells of a scorecard: whole training runs, each in a folder and processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch.arguments import for_shell, key_of, override
from launch.early_signals import launched_from_here
from launch.typed import typed_options
from reporting.cell_files import RECORD, read_record
from reporting.files import write_text
from trainer.loop import Stopped

_SCRIPT = Path(__file__).parent / "train.py"
_NOTHING = object()
_NUM_NEGATIVES = "generator.num_negatives"
_SET_HERE = ("trainer.epochs", "trainer.valid_every")
"""Options that the scorecard sets for each cell; they count as typed, so that they are never adjusted."""


@dataclass(frozen=True)
class Cell:
    """One run of a scorecard: one sampler, graph, discriminator and seed."""

    graph: str
    discriminator: str
    sampler: str
    """A name of `scorecard.generators`."""
    num_negatives: int | None
    """A number of `scorecard.num_negatives`; None if that is null."""
    seed: int
    ranks: int
    folder: Path
    options: list[str] = field(compare=False)
    """Options for `launch/train.py`, without the run folder and the number of epochs."""

    @property
    def name(self) -> str:
        """A text for logs."""
        number = "" if self.num_negatives is None else f"{self.num_negatives} negatives, "
        return f"{self.sampler}, {number}{self.discriminator}, {self.graph}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """True if the run has ended."""
        return (self.folder / "result.json").is_file()

    @property
    def has_begun(self) -> bool:
        """True if there is a checkpoint to resume."""
        return (self.folder / "checkpoints" / "latest.json").is_file()


def plan(config: DictConfig, typed: Sequence[str], chosen: Mapping[str, str], folder: Path) -> list[Cell]:
    """All cells of a scorecard, in the order in which they run.

    Args:
        config: the scorecard's config.
        typed: the options that the user typed.
        chosen: the choice of each config group.
    Raises:
        InputError: an option of the scorecard is wrong.
    """
    options = config.scorecard
    _check(options, typed)
    if chosen.get("quality") is None:
        raise InputError("quality must not be null: a scorecard shows what it measures; leave quality out")
    if config.launch.ranks < 1:
        raise InputError(f"launch.ranks must be at least 1, got {config.launch.ranks}")
    graphs, discriminators = options.graphs or [chosen["graph"]], options.discriminators or [chosen["discriminator"]]
    given = [line for line in typed if not _is_ours(line)]
    # Values of conf/, with those of `common` and `entries`, may be cut for a small graph; typed ones may not. A reward
    # does not count as typed, because samplers that do not learn would refuse it.
    chosen_by_user = [key for key in typed_options(given) if key.split(".")[0] != "reward"]
    kept = f"typed=[{','.join([*chosen_by_user, *_SET_HERE])}]"
    seeds: list[int] = options.seeds or [config.seed]
    # As typed: ${...} in them stands for options of a cell's run, not of the scorecard.
    entries: Any = OmegaConf.to_container(options.entries)
    shared: Any = OmegaConf.to_container(options.common)
    numbers: list[int | None] = options.num_negatives or [None]
    cells = []
    for graph, discriminator, sampler in product(graphs, discriminators, options.generators):
        entry = entries.get(sampler, [f"generator={sampler}"])
        generator = compose("train", [line for line in entry if key_of(line) == "generator"]).generator
        common = _fitting(shared, generator)
        named = [f"graph={graph}", f"discriminator={discriminator}", f"quality={chosen['quality']}"]
        if options.num_negatives and not _has(generator, _NUM_NEGATIVES):
            raise InputError(f"scorecard.num_negatives: {sampler} has no option {_NUM_NEGATIVES}; leave {sampler} out")
        for number, seed in product(numbers, seeds):
            of_number = [] if number is None else [f"{_NUM_NEGATIVES}={number}"]
            parts = [sampler, *([] if number is None else [str(number)]), discriminator, graph, str(seed)]
            place = folder / "cells" / "-".join(parts)
            lines = last_of_each([*common, *given, *entry, *of_number, *named, f"seed={seed}", kept])
            cells.append(Cell(graph, discriminator, sampler, number, seed, config.launch.ranks, place, lines))
    return cells


def _fitting(common: Sequence[str], generator: DictConfig) -> list[str]:
    """The options `common` to all cells, without those that this cell's generator does not have."""
    return [line for line in common if not key_of(line).startswith("generator.") or _has(generator, key_of(line))]


def _has(generator: DictConfig, key: str) -> bool:
    return OmegaConf.select(generator, key.removeprefix("generator."), default=_NOTHING) is not _NOTHING


def _check(options: DictConfig, typed: Sequence[str]) -> None:
    for key in ("generators", "discriminators", "graphs", "num_negatives", "seeds"):
        values = None if options[key] is None else list(options[key])
        if values is None:
            continue
        if not values:
            raise InputError(f"scorecard.{key} must name at least 1, got []")
        if len(set(values)) < len(values):
            raise InputError(f"scorecard.{key} must not name anything twice, got {values}")
    if (options.budget is None) == (options.epochs is None):
        raise InputError(
            f"scorecard: one of budget and epochs must be given and the other null, got {options.budget} and "
            f"{options.epochs}"
        )
    for key in ("budget", "epochs", "validations"):
        if options[key] is not None and options[key] < 1:
            raise InputError(f"scorecard.{key} must be at least 1, got {options[key]}")
    instead = {
        "generator": "scorecard.generators=[...]",
        "trainer.epochs": "scorecard.budget or scorecard.epochs",
        "trainer.valid_every": "scorecard.validations",
        "resume": "the same hydra.run.dir again",
        "experiment": "scorecard.common or scorecard.entries",
    }
    if options.num_negatives:
        if min(options.num_negatives) < 1:
            raise InputError(f"scorecard.num_negatives must be at least 1 each, got {list(options.num_negatives)}")
        instead[_NUM_NEGATIVES] = "scorecard.num_negatives"
    for line in typed:
        if key_of(line) in instead:
            raise InputError(f"{key_of(line)}: a scorecard takes {instead[key_of(line)]} instead, got {line}")


def _is_ours(line: str) -> bool:
    """True for an option of the scorecard, or one that it sets for each cell."""
    key = key_of(line)
    return key.split(".")[0] in ("scorecard", "hydra") or key in ("graph", "discriminator", "seed", "quality")


def last_of_each(lines: Sequence[str]) -> list[str]:
    """The lines without earlier values of an option that is set again later."""
    return list({key_of(line): line for line in lines}.values())


def find_cells(folder: Path) -> list[Path]:
    """The folders of all cells below a folder."""
    return sorted(path.parent for path in folder.rglob(RECORD))


def refuse_others(cells: Sequence[Cell], limit: Mapping[str, Any]) -> None:
    """Raises InputError if a cell's folder holds a run with other options than the cell's."""
    for cell in cells:
        record = read_record(cell.folder)
        if (cell.has_begun or cell.is_finished) and not _is_of(record, cell, limit):
            other = [line for line in cell.options if line not in record.get("options", []) and key_of(line) != "typed"]
            what = ", ".join(other) or record.get("limit")
            raise InputError(
                f"hydra.run.dir: {cell.folder} holds a run with other options ({what}); give the same ones as before "
                "to go on, or name another folder"
            )


def _is_of(record: Mapping[str, Any], cell: Cell, limit: Mapping[str, Any]) -> bool:
    return bool(record) and record["options"] == cell.options and record["limit"] == limit


def run_cell(cell: Cell, limit: Mapping[str, Any], validations: int, find_epochs: Callable[[Cell], int]) -> None:
    """Runs a cell, or resumes it. An error of the run is written into the cell's record and not raised.

    Args:
        limit: the budget or number of epochs.
        validations: how many validations the last stage has.
        find_epochs: gives the number of epochs.
    Raises:
        Stopped: this process received SIGTERM or SIGINT; the cell has saved a checkpoint if it had begun to train.
    """
    record = read_record(cell.folder)
    if not _is_of(record, cell, limit):
        record = {
            "graph": cell.graph,
            "discriminator": cell.discriminator,
            "sampler": cell.sampler,
            "num_negatives": cell.num_negatives,
            "seed": cell.seed,
            "ranks": cell.ranks,
            "options": cell.options,
            "limit": dict(limit),
            "wall_seconds": 0.0,
        }
    record["error"] = "the run did not end"
    cell.folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    try:
        if "epochs" not in record:
            record["epochs"] = find_epochs(cell)
        _write(cell.folder, record)
        every = max(1, record["epochs"] // validations)
        lines = [*cell.options, f"trainer.epochs={record['epochs']}", f"trainer.valid_every={every}"]
        record["error"] = _train(cell, lines)
    except InputError as error:
        record["error"] = str(error)
    except Stopped as stopped:
        record["error"] = f"stopped by signal {stopped.signal}"
        raise
    finally:
        record["wall_seconds"] += time.time() - started
        _write(cell.folder, record)


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_text(folder / RECORD, json.dumps(record, indent=1))


def _train(cell: Cell, options: Sequence[str]) -> str | None:
    """Runs train.py in a new process; returns its error, or None."""
    folder = cell.folder
    resume = [override("resume", str(folder))] if cell.has_begun else []
    command = [sys.executable, str(_SCRIPT), *options, *resume, override("hydra.run.dir", str(folder))]
    with (folder / "log.txt").open("a") as log:
        print("$", for_shell(*command[1:]), file=log, flush=True)
        begin = log.tell()
        with subprocess.Popen(command, stdout=log, stderr=log, env=_environment()) as process, _handed_on(process):
            code = process.wait()
    if code == 0:
        return None
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    said = (folder / "log.txt").read_text()[begin:].strip().splitlines()
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return errors[0] if errors else said[-1] if said else f"exit code {code}"


def _environment() -> dict[str, str]:
    return {**launched_from_here(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))}


@contextmanager
def _handed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Forwards SIGTERM and SIGINT to the process, waits until it ends, then raises `Stopped`."""
    asked: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Stopped(asked[0])
