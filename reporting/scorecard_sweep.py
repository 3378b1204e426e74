"""Runs of a sweep as cells of a scorecard: figures that they did not measure are left out, and none is made up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph.errors import InputError
from reporting.run_files import read_config, read_result
from reporting.scorecard_cell import Result, result_of
from reporting.sweep_runs import SEED, SweepRun, read_sweep, value_of, varied_options
from trainer.checkpoint_files import is_file, shown

_IN_IDENTITY = ("graph", "graph.path", "discriminator", "recipe", "generator", "launch.ranks", SEED)
"""Options that are seen in a cell's place in the scorecard; other options become part of its sampler's name."""


def read_sweep_results(folder: Path) -> list[Result]:
    """The runs of a sweep; those that failed before they had a config are left out.

    Two runs that differ by other options than graph, model, ranks and seed count as different samplers.

    Raises:
        InputError: there is no run, or a file of one is damaged.
    """
    runs = read_sweep(folder)
    others = [key for key in varied_options(runs) if key not in _IN_IDENTITY]
    return [_read(folder / run.name, run, others) for run in runs if is_file(folder / run.name / "config.yaml")]


def _read(folder: Path, run: SweepRun, others: list[str]) -> Result:
    path, config, result = folder / "config.yaml", read_config(folder), read_result(folder)
    sampler = ", ".join([_module(path, config, "generator"), *(f"{key}={value_of(run, key)}" for key in others)])
    seed, epochs = (_whole(path, config, key) for key in (SEED, "trainer.epochs"))
    record = {
        "graph": _graph(path, config),
        "discriminator": _module(path, config, "discriminator", "scoring"),
        "sampler": sampler,
        "seed": seed,
        "ranks": result.get("world_size") or 1,
        "limit": {"budget": None, "epochs": epochs},
        "epochs": epochs,
        "wall_seconds": run.figures.get("seconds", 0.0),
        "error": "the run did not end",
    }
    return result_of(folder, record, is_measured=False)


def _module(path: Path, config: Mapping[str, Any], *keys: str) -> str:
    """The name of the file that holds the class of a choice, which is also the choice's name."""
    target = _value(config, *keys, "_target_")
    if not isinstance(target, str) or target.count(".") < 2:
        raise InputError(f"{path}: {'.'.join(keys)}._target_ must name a class, got {shown(target)}")
    return target.split(".")[-2]


def _graph(path: Path, config: Mapping[str, Any]) -> str:
    name, folder = _value(config, "graph", "name"), _value(config, "graph", "path")
    if isinstance(name, str):
        return name
    return Path(folder).name if isinstance(folder, str) else _module(path, config, "graph")


def _whole(path: Path, config: Mapping[str, Any], key: str) -> int:
    value = _value(config, *key.split("."))
    if type(value) is not int:
        raise InputError(f"{path}: {key} must be a whole number, got {shown(value)}")
    return value


def _value(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
