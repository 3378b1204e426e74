"""Reads a checkpoint's manifest and checks each field, because a run folder may come from someone else."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from graph.errors import InputError
from trainer.checkpoint_files import digest_of, is_file, read_json, shown
from trainer.evaluate import SIDES, rank_summary
from trainer.stage import BEST, Cursor
from trainer.validation import METRICS

FORMAT = 2
_LARGEST = 1 << 63
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
_FILE = re.compile(r"(?P<kind>[a-z_]+?)(_(?P<rank>\d{1,6})_of_(?P<ranks>\d{1,6}))?\.safetensors", re.ASCII)
Rule = tuple[str, Callable[[Any], bool]]
"""The rule of a field in words, and a function that tests a value."""


def is_name(value: Any) -> bool:
    """Whether a value is a plain name, for example of a checkpoint or a stage: no path, so it stays in its folder."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_whole(value: Any, least: int = -_LARGEST) -> bool:
    return type(value) is int and least <= value < _LARGEST


def _is_number(value: Any, least: float, most: float = math.inf) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and least <= value <= most


def _is_id(value: Any) -> bool:
    """Whether wandb allows the value as an id; users may choose their own."""
    return isinstance(value, str) and re.fullmatch(r"[^/\\#?%:]{1,128}", value) is not None and value.isprintable()


def _at_least(least: int) -> Rule:
    return f"a whole number of at least {least}", lambda value: _is_whole(value, least)


def _is_best(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == set(BEST) and all(_CURSOR[key][1](value[key]) for key in BEST)


def _is_average(value: Any) -> bool:
    """Whether the value is null, or the name of an average and its numbers."""
    if not isinstance(value, dict):
        return value is None
    numbers = [each for key, each in value.items() if key != "name"]
    return is_name(value.get("name")) and all(_is_number(each, -1e300) for each in numbers)


def _is_ranking(value: Any) -> bool:
    """Whether the value is null, or the metrics of a ranking by side."""
    if not isinstance(value, dict):
        return value is None
    names = rank_summary(torch.ones((2, 1), dtype=torch.int64)).keys()
    return value.keys() == set(SIDES) and all(
        isinstance(of, dict) and of.keys() == names and all(_is_number(each, 0.0) for each in of.values())
        for of in value.values()
    )


_CURSOR: dict[str, Rule] = {
    "stage": _at_least(0),
    "stage_step": _at_least(0),
    "step": _at_least(0),
    "best_value": ("a number from -1 to 1", lambda value: _is_number(value, -1.0, 1.0)),
    "best_step": _at_least(0),
    "best_checkpoint": ("the name of a checkpoint or null", lambda value: value is None or is_name(value)),
    "stale": _at_least(0),
    "set_aside": ("what is known of a best checkpoint, or null", lambda value: value is None or _is_best(value)),
    "seconds": ("a number of at least 0", lambda value: _is_number(value, 0.0)),
    "finished": (
        "steps by stage",
        lambda value: isinstance(value, dict) and all(is_name(k) and _is_whole(v, 0) for k, v in value.items()),
    ),
}
_FIELDS: dict[str, Rule] = {
    "format": (f"{FORMAT}, which this version reads", lambda value: type(value) is int and value == FORMAT),
    "files": ("the SHA-256 of each file", lambda value: isinstance(value, dict)),
    "cursor": ("where the run stands, by name", lambda value: isinstance(value, dict)),
    "tracker_run_id": ("an id or null", lambda value: value is None or _is_id(value)),
    "seed": ("a whole number", _is_whole),
    "trainer.batch_size": _at_least(1),
    "trainer.chunk_size": _at_least(1),
    "trainer.sides": ("one or both", lambda value: value in ("one", "both")),
    "trainer.subsampling": ("true or false", lambda value: isinstance(value, bool)),
    "trainer.metric": (f"one of {', '.join(METRICS)}", lambda value: value in METRICS),
    "trainer.valid_sample": ("a number of triples or null", lambda value: value is None or _is_whole(value, 1)),
    "generator": ("the name of a class", is_name),
    "stages": ("names of stages", lambda value: isinstance(value, list) and value != [] and all(map(is_name, value))),
    "graph": (
        "16 hex digits",
        lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None,
    ),
    "order": (
        "sections or R_of_S_shards_anew_ORDER",
        lambda value: (
            isinstance(value, str) and re.fullmatch(r"sections|\d+_of_\d+_shards_anew_[0-9a-f]{8}", value) is not None
        ),
    ),
    "scored_candidates": _at_least(0),
    "schedule": (
        "numbers by name",
        lambda value: isinstance(value, dict) and all(is_name(k) and _is_number(v, -1e300) for k, v in value.items()),
    ),
    "average": ("the name of an average and its numbers, or null", _is_average),
    "ranking": ("the metrics of a ranking by side, or null", _is_ranking),
}


def load_manifest(checkpoint: Path, *needed: str) -> dict[str, Any]:
    """Reads the manifest and checks its own SHA-256 and each field.

    Args:
        needed: fields that the manifest must have, besides the format and the list of files.

    Raises:
        InputError: the manifest is missing or damaged, or a field is wrong; names the file and the field.
    """
    path = checkpoint / "manifest.json"
    if not is_file(path):
        raise InputError(f"{checkpoint} is not a checkpoint: it has no manifest.json")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or "digest" not in manifest:
        raise InputError(f"{path} is damaged: it states no digest")
    digest = manifest.pop("digest")
    if digest != digest_of(manifest):
        raise InputError(f"{path} is damaged: its content does not have the SHA-256 that it states")
    if "format" in manifest:  # first: fields of an earlier format are not damage
        _check_fields(path, "", {"format": manifest["format"]}, _FIELDS, ())
    _check_fields(path, "", manifest, _FIELDS, ("format", "files", *needed))
    _check_files(path, manifest["files"])
    if "cursor" in manifest:
        _check_cursor(path, manifest["cursor"], manifest.get("stages"))
    return manifest


def _check_fields(
    path: Path, prefix: str, content: Mapping[str, Any], rules: Mapping[str, Rule], needed: tuple[str, ...]
) -> None:
    for key in needed:
        if key not in content:
            raise InputError(f"{path} is damaged: it has no field {prefix}{key}")
    for key, value in content.items():
        if key not in rules:
            raise InputError(f"{path}: {shown(prefix + key)} is no field of this version's checkpoints")
        rule, holds = rules[key]
        if not holds(value):
            raise InputError(f"{path}: {prefix}{key} must be {rule}, got {shown(value)}")


def _check_files(path: Path, files: Mapping[str, Any]) -> None:
    """Raises InputError unless the list has dense.safetensors, the rows of every rank, and only such names."""
    ranks: dict[str, dict[int, set[int]]] = {}
    for name, digest in files.items():
        match = _FILE.fullmatch(name)
        if match is None or not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise InputError(
                f"{path}: files must give the SHA-256 of files as checkpoints have them, got {shown({name: digest})}"
            )
        if match["ranks"] is not None:
            ranks.setdefault(match["kind"], {}).setdefault(int(match["ranks"]), set()).add(int(match["rank"]))
    whole = all(
        len(by_size) == 1 and set(range(size)) == by_size[size] for by_size in ranks.values() for size in by_size
    )
    if "dense.safetensors" not in files or "rows" not in ranks or not whole:
        raise InputError(
            f"{path}: files must name dense.safetensors and rows_K_of_W.safetensors of each of W ranks, "
            f"got {shown(sorted(files))}"
        )


def _check_cursor(path: Path, cursor: Mapping[str, Any], stages: list[str] | None) -> None:
    _check_fields(path, "cursor.", cursor, _CURSOR, tuple(Cursor().as_dict()))
    for small, large in (("stage_step", "step"), ("best_step", "step")):
        if cursor[small] > cursor[large]:
            raise InputError(
                f"{path}: cursor.{small} must not be above cursor.{large}, {cursor[large]}, got {cursor[small]}"
            )
    if stages is None:
        return
    if cursor["stage"] > len(stages) or (cursor["stage"] == len(stages) and cursor["stage_step"] > 0):
        raise InputError(
            f"{path}: cursor.stage must be the number of one of {len(stages)} stages, or {len(stages)} with no step "
            f"done, got {cursor['stage']} with cursor.stage_step={cursor['stage_step']}"
        )
    done = set(stages[: cursor["stage"]])
    if not done <= set(cursor["finished"]) <= set(stages):
        raise InputError(
            f"{path}: cursor.finished must name the stages that are done, {shown(sorted(done))}, "
            f"got {shown(cursor['finished'])}"
        )
