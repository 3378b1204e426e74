"""Options that the user typed, in contrast to values of conf/.

If a value of conf/ is too large for a graph or run, it is cut, with a log line. A typed value is kept or refused.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import get_object
from omegaconf import DictConfig

from graph.knowledge_graph import KnowledgeGraph
from graph.partition import metis_placement

log = logging.getLogger(__name__)

_MOST_TO_A_CHUNK = 64
_LEAST_STEPS = 50
"""Fewest steps an epoch where `trainer.batch_size` is null, as far as `_BATCH_SIZES` allows."""
_BATCH_SIZES = (32, 1024)


def typed_options(overrides: Sequence[str]) -> list[str]:
    """The config key of each option of a command line; for a choice from a group, the key where it is placed."""
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
    """Sets `typed` in a run's config to the keys on its command line, unless `typed` is given."""
    if config.typed is None:
        config.typed = typed_options(overrides)


def is_typed(config: DictConfig, key: str) -> bool:
    """True if the user typed this option."""
    return key in (config.get("typed") or ())


def fit_to_graph(config: DictConfig, graph: KnowledgeGraph) -> None:
    """Chooses sizes that are null, and cuts values of conf/ that are larger than the graph; logs each change.

    A null `trainer.batch_size` becomes a power of two that makes 50 to 100 steps an epoch, at least 32 and at most
    1,024; a null `trainer.chunk_size` becomes a quarter of the batch.
    """
    if config.trainer.batch_size is None:
        most = max(len(graph.train) // _LEAST_STEPS, 1)
        config.trainer.batch_size = min(max(2 ** (most.bit_length() - 1), _BATCH_SIZES[0]), _BATCH_SIZES[1])
        log.info("trainer.batch_size: %d, for %d train triples", config.trainer.batch_size, len(graph.train))
    if config.trainer.chunk_size is None:
        config.trainer.chunk_size = max(config.trainer.batch_size // 4, 1)
    sample, num_valid = config.trainer.get("valid_sample"), len(graph.valid)
    if sample is not None and sample > num_valid and not is_typed(config, "trainer.valid_sample"):
        config.trainer.valid_sample = None
        log.info("trainer.valid_sample: all %d valid triples instead of %d", num_valid, sample)
    for key, node in _nodes(config, ""):
        target = get_object(node._target_)
        bounds = {"num_parts": 0} if target is metis_placement else getattr(target, "bounded_by_entities", {})
        for name, less in bounds.items():
            most, value = max(graph.num_entities - less, 1), node[name]
            if value > most and not is_typed(config, f"{key}.{name}"):
                node[name] = most
                log.info("%s.%s: %d instead of %d, for %d entities", key, name, most, value, graph.num_entities)
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
    """Key and config of each node that has a `_target_`."""
    for name, value in node.items():
        if isinstance(value, DictConfig):
            path = f"{key}.{name}" if key else str(name)
            if value.get("_target_"):
                yield path, value
            yield from _nodes(value, path)
