"""Checks a config's options against the constructors that take them, before anything is built."""

import inspect
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra.utils import get_object
from omegaconf import DictConfig

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
        if isinstance(value, DictConfig):
            check_options(value, path)
        elif target and name not in ("_target_", "_partial_"):
            if name not in parameters:
                raise InputError(f"{path}: {target} has no such option; it has {', '.join(parameters)}")
            _check_type(path, value, parameters[str(name)].annotation)


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Only plain types are checked: what a constructor makes of others is its own."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if not all(kind in _ALLOWED for kind in kinds):
        return
    # bool is an int in Python, but no user means 1 by true
    if not any(type(value) in _ALLOWED[kind] for kind in kinds):
        raise InputError(f"{key} must be {' or '.join(_NAMES[kind] for kind in kinds)}, got {value!r}")
