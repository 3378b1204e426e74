"""Checks a config's options against the constructors that take them, before anything is built."""

import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from graph.errors import InputError

_ALLOWED = {int: (int,), float: (int, float), bool: (bool,), str: (str,), NoneType: (NoneType,)}
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}


def check_options(config: DictConfig, key: str = "") -> None:
    """Checks each node with a `_target_`, all the way down.

    Raises:
        InputError: names the key of an option that its target does not have, or whose value has another type.
    """
    target = config.get("_target_")
    parameters = inspect.signature(get_object(target)).parameters if target else {}
    for name, value in config.items():
        path = f"{key}.{name}" if key else str(name)
        annotation = parameters[str(name)].annotation if name in parameters else None
        if get_origin(annotation) is Mapping and isinstance(value, DictConfig):
            _check_parts(path, value)
        if isinstance(value, DictConfig):
            check_options(value, path)
        elif target and name not in ("_target_", "_partial_"):
            if name not in parameters:
                raise InputError(f"{path}: {target} has no such option; it has {', '.join(parameters)}")
            _check_type(path, value, parameters[str(name)].annotation)


def _check_parts(key: str, parts: DictConfig) -> None:
    """Each part is one of a group, not the name of one."""
    for name, part in parts.items():
        if not isinstance(part, DictConfig):
            group = key.split(".", maxsplit=1)[0]
            raise InputError(f"{key}.{name} must be chosen from a group, {group}@{key}.{name}={part}, got {part!r}")


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Only plain types are checked: what a constructor makes of others is its own."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if any(get_origin(kind) is Sequence for kind in kinds) and not isinstance(value, ListConfig | NoneType):
        raise InputError(f"{key} must be a list, as in {key}=[1,2], got {value!r}")
    if not all(kind in _ALLOWED for kind in kinds):
        return
    # bool is an int in Python, but no user means 1 by true
    if not any(type(value) in _ALLOWED[kind] for kind in kinds):
        raise InputError(f"{key} must be {' or '.join(_NAMES[kind] for kind in kinds)}, got {value!r}")
