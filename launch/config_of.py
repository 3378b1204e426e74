"""The whole config that a run folder keeps, as a flat list of options."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.strict_yaml import read_yaml


def options_of(checkpoint: Path) -> dict[str, Any]:
    """The options, by key, of the run that a checkpoint belongs to; empty if it is not in a run folder."""
    file = checkpoint.parent.parent / "config.yaml"
    if not file.is_file():
        return {}
    options = read_yaml(file)
    if not isinstance(options, dict):
        raise InputError(f"{file} is damaged: it holds no options")
    return dict(flat(options))


def flat(options: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested options with their keys, such as `trainer.epochs`."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
