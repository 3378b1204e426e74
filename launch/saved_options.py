"""The options that a run was started with, read back from its folder when it is resumed.

The folder may come from someone else. So it may set only options of the training: not where and how the run is started
(`launch`, `tracker`, `graph.cache`, hydra's own options), not which code is called, and no choice outside of conf/.
"""

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from graph.errors import InputError
from launch.own_targets import CONF
from launch.run_options import GONE, RunOptions
from trainer.checkpoint_files import shown
from trainer.strict_yaml import read_yaml

_OF_THE_USER = ("launch", "tracker", "trackers", "resume")
_CACHE = ["graph", "cache"]
_TABLE = ["placement", "folder"]
_OPTIONAL = {"encoder", "average", "quality", "pretrain"}
_CHOICE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_MOST_BRACKETS = 30  # in one line, because hydra's parser is recursive


def saved_options(file: Path, given: Collection[str]) -> tuple[list[str], list[str]]:
    """Reads the options in a run's overrides.yaml, without those whose keys the user typed now (`given`), and
    without those of earlier versions.

    Returns:
        The options to use, and the options, such as `tracker`, that only the user may set.
    Raises:
        InputError: a line that is no option of a run, or that names code, a file or an environment variable.
    """
    lines = read_yaml(file)
    if not (lines is None or (isinstance(lines, list) and all(isinstance(line, str) for line in lines))):
        raise InputError(f"resume: {file} is damaged: it must be a list of options, got {shown(lines)}")
    taken, left = [], []
    for line in lines or []:
        option = _parse(file, line)
        if _name(option) in given or _name(option) in GONE:
            continue
        if _is_of_the_user(option):
            left.append(line)
        else:
            _check(file, line, option)
            taken.append(line)
    return taken, left


def _parse(file: Path, line: str) -> Override:
    if not line.startswith("-") and sum(line.count(bracket) for bracket in "([{") <= _MOST_BRACKETS:
        # ValueError: a number of thousands of digits.
        with contextlib.suppress(HydraException, ValueError):
            return OverridesParser.create().parse_override(line)
    raise _refused(file, line, "each line must be an option, KEY=VALUE")


def _name(option: Override) -> str:
    """The part of a line before `=`."""
    return option.key_or_group if option.package is None else f"{option.key_or_group}@{option.package}"


def _places(option: Override) -> list[str]:
    """The config keys that an option changes: its key, or its group and package."""
    return [place for place in (option.key_or_group, option.package) if place is not None]


def _is_of_the_user(option: Override) -> bool:
    return any(_parts(place)[0] in _OF_THE_USER or _parts(place)[:2] in (_CACHE, _TABLE) for place in _places(option))


def _parts(place: str) -> list[str]:
    return re.split(r"[./]", place)


def _check(file: Path, line: str, option: Override) -> None:
    known = {field.name for field in fields(RunOptions)} | {path.name for path in CONF.iterdir() if path.is_dir()}
    if not all(_parts(place)[0] in known for place in _places(option)):
        raise _refused(file, line, "a line may set an option of the training and nothing else")
    if option.is_delete() and option.key_or_group in {field.name for field in fields(RunOptions)} - _OPTIONAL:
        raise _refused(file, line, "a line may not take away what every run has")
    value = option.value()
    if not isinstance(value, None | bool | int | float | str | list | dict):
        raise _refused(file, line, "an option must have one value")
    names = [*(part for place in _places(option) for part in _parts(place)), *_keys(value)]
    if any(name.startswith("_") and name != "_partial_" for name in names):
        raise _refused(file, line, "a line may not name what is called")
    if _parts(option.key_or_group)[0] == _CACHE[0] and _CACHE[1] in _keys(value):
        raise _refused(file, line, "a line may not say where a graph is kept")
    if _parts(option.key_or_group)[0] == _TABLE[0] and _TABLE[1] in _keys(value):
        raise _refused(file, line, "a line may not say where a table is kept")
    if any("${" in text for text in (*names, *_texts(value))):
        key = _name(option)
        raise _refused(file, line, f"interpolations are not taken from a run folder; type {key}=VALUE yourself")
    is_choice = "." not in option.key_or_group and not isinstance(value, dict)
    if is_choice and not all(_CHOICE.fullmatch(text) for text in _texts(value)):
        raise _refused(file, line, "a choice must be the name of a file of conf/")


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, except keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _keys(value: Any) -> Iterator[str]:
    """All keys in a value."""
    if isinstance(value, list | dict):
        yield from map(str, value if isinstance(value, dict) else ())
        for part in value.values() if isinstance(value, dict) else value:
            yield from _keys(part)


def _refused(file: Path, line: str, rule: str) -> InputError:
    return InputError(f"{file}: {rule}, got {shown(line)}")
