"""Lets a run folder, which may come from someone else, call only the classes that the files of conf/ name."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from graph.errors import InputError
from trainer.checkpoint_files import shown

CONF = Path(__file__).parents[1] / "conf"


@dataclass(frozen=True)
class _Call:
    """The `_target_` and `_partial_` of a mapping; without a target, hydra calls nothing."""

    target: str | None
    partial: Any


def check_plain(source: Path | str, values: Any) -> None:
    """Checks the options of a whole run, resolved to plain values, before anything is made of them.

    hydra calls each `_target_`, at any depth, with the options beside it. It also has special keys such as `_args_`,
    which no file of conf/ uses.

    Args:
        source: where the options are from, for errors.
        values: the options as plain Python values.
    Raises:
        InputError: a target that no file of conf/ names at this place, a special key of hydra that conf/ does not use,
            an interpolation, or a missing value. Names the key.
    """
    entries = list(_entries((), values))
    for key, value in entries:
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{source}: {_shown(key)} must be a plain value, but has an interpolation (${{)")
        if value == "???":
            raise InputError(f"{source}: {_shown(key)} has no value")
    for key, value in entries:
        if isinstance(value, dict):
            _check_mapping(source, key, value)
        here = _calls_in_conf().get(key)
        optional = value is None and len(key) == 1  # encoder, average, quality
        if here and not optional and not (isinstance(value, dict) and _call_of(value) in here):
            raise InputError(f"{source}: {_shown(key)} must be one of conf/{key[0]}, got {shown(value)}")


def _check_mapping(source: Path | str, key: tuple[str, ...], value: dict[Any, Any]) -> None:
    for part in map(str, value):
        if part.startswith("_") and part.endswith("_") and part not in ("_target_", "_partial_"):
            raise InputError(f"{source}: {_shown((*key, part))} is no option of a run")
    call = _call_of(value)
    if not isinstance(call.partial, bool):
        raise InputError(f"{source}: {_shown((*key, '_partial_'))} must be true or false, got {shown(call.partial)}")
    if call.target is not None and call.target not in _targets_in_conf():
        raise InputError(
            f"{source}: {_shown((*key, '_target_'))} must be one that a file of conf/ names, got {shown(call.target)}; "
            "if it is your own, write a file of conf/ with it"
        )


def _shown(key: tuple[str, ...]) -> str:
    return ".".join(key)[:200]


def _call_of(value: dict[Any, Any]) -> _Call:
    target = value.get("_target_")
    return _Call(target if target is None or isinstance(target, str) else repr(target), value.get("_partial_", False))


@cache
def _calls_in_conf() -> dict[tuple[str, ...], frozenset[_Call]]:
    """The targets in the files of conf/, by config key: that of conf/graph/umls.yaml is ("graph",)."""
    found: dict[tuple[str, ...], set[_Call]] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        try:
            values = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise InputError(f"{path} can't be read: {' '.join(str(error).split())}") from error
        group = path.relative_to(CONF).parts[:1]
        for key, value in _entries(group, values):
            if isinstance(value, dict) and "_target_" in value:
                found.setdefault(key, set()).add(_call_of(value))
    return {key: frozenset(calls) for key, calls in found.items()}


@cache
def _targets_in_conf() -> frozenset[str | None]:
    return frozenset(call.target for calls in _calls_in_conf().values() for call in calls)


def _entries(key: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A value and all values below it, in mappings and lists, with their keys."""
    yield key, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _entries((*key, str(name)), part)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _entries((*key, str(number)), part)
