"""Reads and checks the files of a run folder, which may come from someone else."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.checkpoint_files import is_file, read_json, read_small_file, shown
from trainer.strict_yaml import read_yaml
from trainer.validation import GROUPS

_MOST_BYTES = 1 << 30  # of metrics.jsonl
_MRR = tuple(f"{group}/mrr" for group in GROUPS)


def read_result(folder: Path) -> dict[str, Any]:
    """The fields of result.json; empty if the run has not ended.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "result.json"
    result = read_json(path) if is_file(path) else {}
    if not isinstance(result, dict):
        raise InputError(f"{path} is damaged: it must be fields by name, got {shown(result)}")
    return result


def read_options(folder: Path) -> list[str]:
    """The lines of overrides.yaml, the options that were typed; empty if there is no file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "overrides.yaml"
    lines = read_yaml(path) if is_file(path) else []
    if not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        raise InputError(f"{path} is damaged: it must be a list of options, got {shown(lines)}")
    return lines


def as_typed(lines: Sequence[str]) -> list[str]:
    """The options without those that a run folder has though nobody typed them: the recipe of the chosen model's name.

    A sweep drops others that follow, such as graph.root, by comparing its runs.
    """
    chosen = {line.partition("=")[2] for line in lines if line.startswith("discriminator=")}
    return [line for line in lines if not (line.startswith("recipe=") and line.partition("=")[2] in chosen)]


def read_config(folder: Path) -> dict[str, Any]:
    """The options in config.yaml, by group.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = folder / "config.yaml"
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise InputError(f"{path} is damaged: it must be options by name, got {shown(config)}")
    return config


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; empty if there is no file. Leaves out a line that was cut off.

    If a resumed run wrote a step again, the later line counts.

    Raises:
        InputError: a line has no step or stage; names the line.
    """
    if not is_file(path):
        return []
    lines = []
    for number, text in enumerate(read_small_file(path, most_bytes=_MOST_BYTES).splitlines(), 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        step = line.get("step") if isinstance(line, dict) else None
        if not (type(step) is int and 0 <= step < 1 << 63 and isinstance(line.get("stage"), str)):
            raise InputError(f"{path}, line {number}: it must have a step and the name of a stage, got {shown(line)}")
        lines.append(line)
    return list({(line["step"], line["stage"], "loss" in line, mrr_in(line)): line for line in lines}.values())


def mrr_in(line: Mapping[str, Any]) -> str | None:
    """The name of the MRR in the line of a validation; None in another line."""
    return next((name for name in _MRR if name in line), None)


def still_rises(values: Sequence[float]) -> bool:
    """Whether the last of a stage's validations is better than all before it: it would gain from more training.

    `launch/train.py` says the same at the end of a run. One validation says nothing of rising.
    """
    return len(values) > 1 and values[-1] > max(values[:-1])


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def number(path: Path, values: Any, *keys: str) -> int | float:
    """The number at nested keys, such as "test", "both", "mrr".

    Raises:
        InputError: there is none, or it is not finite; names the file and the keys.
    """
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    if not is_number(values):
        raise InputError(f"{path}: {'.'.join(keys)} must be a finite number, got {shown(values)}")
    return values  # pyright: ignore[reportReturnType] (is_number has seen it)
