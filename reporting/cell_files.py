"""Reads and checks the record of a scorecard's cell (one run), which may come from someone else."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.checkpoint_files import is_file, read_json, shown

RECORD = "cell.json"


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
    if record.get("num_negatives") is not None and not _is_whole(record["num_negatives"]):
        value = shown(record["num_negatives"])
        raise InputError(f"{path}: num_negatives must be a whole number of at least 0, or null, got {value}")
    if "epochs" in record and not _is_whole(record["epochs"]):
        raise InputError(f"{path}: epochs must be a whole number of at least 0, got {shown(record['epochs'])}")
    return record
