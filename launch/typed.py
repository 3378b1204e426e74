"""What the user typed, as against what the files of conf/ say.

A value of conf/ is made for graphs and runs of some size; where a run is too small for it, it is cut, and a log line
says so. A value that was typed is kept, or refused.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import get_object
from omegaconf import DictConfig

from graph.partition import metis_placement

log = logging.getLogger(__name__)

_MOST_TO_A_CHUNK = 64


def typed_options(overrides: Sequence[str]) -> list[str]:
    """The config key of each option of a command line; of a choice from a group, the key that it fills."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return list(dict.fromkeys(key for each in parsed for key in _keys_of(each)))


def _keys_of(override: Override) -> Iterator[str]:
    key = override.package or override.key_or_group
    yield key
    yield from _keys_in(key, None if override.is_sweep_override() else override.value())


def _keys_in(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{key}.{name}"
            yield from _keys_in(f"{key}.{name}", each)


def note_typed(config: DictConfig, overrides: Sequence[str]) -> None:
    """Puts into a run's config what its command line typed, unless that says it itself."""
    if config.typed is None:
        config.typed = typed_options(overrides)


def is_typed(config: DictConfig, key: str) -> bool:
    """Whether the user gave this option a value."""
    return key in (config.get("typed") or ())


def fit_to_graph(config: DictConfig, num_entities: int) -> None:
    """Cuts what conf/ says and this graph has not the entities for; says so in a line for each option."""
    for key, node in _nodes(config, ""):
        target = get_object(node._target_)
        bounds = {"num_parts": 0} if target is metis_placement else getattr(target, "bounded_by_entities", {})
        for name, less in bounds.items():
            most, value = max(num_entities - less, 1), node[name]
            if value > most and not is_typed(config, f"{key}.{name}"):
                node[name] = most
                log.info("%s.%s: %d instead of %d, for %d entities", key, name, most, value, num_entities)
        least = getattr(target, "least_chunk_size", 1)
        if key.startswith("generator") and config.trainer.chunk_size < least:
            _enlarge_chunks(config, key)


def _enlarge_chunks(config: DictConfig, key: str) -> None:
    batch_size = config.trainer.batch_size
    sizes = [size for size in range(2, _MOST_TO_A_CHUNK + 1) if batch_size % size == 0]
    if sizes and not is_typed(config, "trainer.chunk_size"):
        log.info("trainer.chunk_size: %d instead of %d, for %s", sizes[-1], config.trainer.chunk_size, key)
        config.trainer.chunk_size = sizes[-1]


def _nodes(node: DictConfig, key: str) -> Iterator[tuple[str, DictConfig]]:
    """Each node that has a target, by its key."""
    for name, value in node.items():
        if isinstance(value, DictConfig):
            path = f"{key}.{name}" if key else str(name)
            if value.get("_target_"):
                yield path, value
            yield from _nodes(value, path)
