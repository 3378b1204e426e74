"""Options that name files and folders, made absolute, so that a saved run can be used from anywhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch.arguments import AUTO, PATHS, expand_home, is_path, key_of, override


def make_absolute(config: DictConfig) -> None:
    """Makes the paths of a config absolute, relative ones from the folder where the command was started.

    Raises:
        InputError: an empty path.
    """
    for key, path in paths_of(config).items():
        OmegaConf.update(config, key, absolute(key, path))


def paths_of(config: DictConfig) -> dict[str, str]:
    """The paths that a config has, by their keys; not those that are null."""
    of_samplers = [
        key for section in ("generator", "pretrain") for key in _keys(OmegaConf.select(config, section), section)
    ]
    found = {key: OmegaConf.select(config, key) for key in (*PATHS, *filter(is_path, of_samplers))}
    return {key: path for key, path in found.items() if isinstance(path, str) and (key, path) != ("resume", AUTO)}


def _keys(node: Any, key: str) -> Iterator[str]:
    """The keys of a node and of all nodes below it."""
    yield key
    if isinstance(node, DictConfig):
        for name in node:
            if not OmegaConf.is_missing(node, name):
                yield from _keys(node[name], f"{key}.{name}")


def absolute_lines(lines: Sequence[str], config: DictConfig) -> list[str]:
    """The overrides, with absolute paths, taken from the config after `make_absolute`."""
    paths = paths_of(config)
    kept = [line for line in lines if key_of(line) not in paths]
    typed = {key_of(line) for line in lines}
    return [*kept, *(override(key, path) for key, path in paths.items() if key in typed)]


def absolute(key: str, path: str) -> str:
    """An absolute path; `~` is the user's home."""
    if not path:
        raise InputError(f"{key} must be a path or null, got ''")
    expanded = expand_home(path)
    if expanded.startswith("~"):
        return expanded
    found = Path(to_absolute_path(expanded))
    # One text for each path, from whatever folder it was typed. Links are followed only if there is a "..".
    return str(found.resolve() if ".." in found.parts else found)
