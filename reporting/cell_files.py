"""Reads and checks the files of a scorecard's cell (one run), which may come from someone else."""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.checkpoint_files import is_file, read_json, read_small_file, shown

RECORD = "cell.json"
_MOST_BYTES = 1 << 30  # of metrics.jsonl


def _is_name(value: Any) -> bool:
    # Names are shown in tables, pages and plots: no markup, and no $, which plots read as mathematics.
    return isinstance(value, str) and re.fullmatch(r"[\w.,+@/= -]{1,200}", value) is not None


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_limit(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"budget", "epochs"}
        and [each is None for each in value.values()].count(True) == 1
        and all(each is None or _is_number(each) for each in value.values())
    )


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "graph": ("a name", _is_name),
    "discriminator": ("a name", _is_name),
    "sampler": ("a name", _is_name),
    "seed": ("a whole number", lambda value: type(value) is int and abs(value) < 1 << 63),
    "ranks": ("a whole number of at least 0", _is_whole),
    "options": (
        "a list of options",
        lambda value: isinstance(value, list) and all(isinstance(line, str) for line in value),
    ),
    "limit": ("a budget or a number of epochs, and null for the other", _is_limit),
    "wall_seconds": ("a number of at least 0", _is_number),
    "error": ("a text or null", lambda value: value is None or isinstance(value, str)),
}


def read_record(folder: Path) -> dict[str, Any]:
    """The scorecard's own record of a cell, cell.json; empty for a cell that was never started.

    Raises:
        InputError: the file is damaged; names it and the field.
    """
    path = folder / RECORD
    if not is_file(path):
        return {}
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} is damaged: it must be fields by name, got {shown(record)}")
    for key, (rule, holds) in _FIELDS.items():
        if key not in record:
            raise InputError(f"{path} is damaged: it has no field {key}")
        if not holds(record[key]):
            raise InputError(f"{path}: {key} must be {rule}, got {shown(record[key])}")
    if "epochs" in record and not _is_whole(record["epochs"]):
        raise InputError(f"{path}: epochs must be a whole number of at least 0, got {shown(record['epochs'])}")
    return record


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; empty if there is no file. Leaves out a line that was cut off.

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
        if not (isinstance(line, dict) and _is_whole(line.get("step")) and isinstance(line.get("stage"), str)):
            raise InputError(f"{path}, line {number}: it must have a step and the name of a stage, got {shown(line)}")
        lines.append(line)
    return lines


def number(path: Path, values: Any, *keys: str) -> float:
    """The number at nested keys, such as "test", "both", "mrr".

    Raises:
        InputError: there is none, or it is not finite; names the file and the keys.
    """
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    if type(values) not in (int, float) or not math.isfinite(values):
        raise InputError(f"{path}: {'.'.join(keys)} must be a finite number, got {shown(values)}")
    return values
