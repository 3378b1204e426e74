"""Suggestions for an unknown option: the most similar options anywhere in the config."""

import re
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launch.arguments import key_of

CONF = Path(__file__).parents[1] / "conf"
_UNKNOWN = re.compile(r"Could not override '([^'@]+)'|Could not delete from config\. '([^']+)' does not exist")
_WRONG_VALUE = re.compile(r"Error merging override ([^=\s]+)=(.*?): .*(Integer|Float|Boolean|ListConfig)")
_KINDS = {
    "Integer": "an integer",
    "Float": "a number",
    "Boolean": "true or false",
    "ListConfig": "a list, as in {key}=[...]",
}
_LIKE = 0.7  # least similarity of a suggestion; 1 is equal
_ELSEWHERE = 0.85  # the same for one outside of the typed section, if there is such a section
_NEAR = 0.07  # most difference in similarity from the best suggestion


def explain_unknown_option(reason: str, command: str) -> str | None:
    """An error text with suggestions, if hydra's error `reason` is about an unknown option; else None."""
    found = _UNKNOWN.search(reason)
    if found is None:
        return None
    return no_such_option(found[1] or found[2], command)


def no_such_option(key: str, command: str) -> str:
    """The error text for an unknown option of a command, with suggestions. Composes the command's config."""
    if key == "graph.path" and command in ("train", "search", "scorecard"):
        return "graph.path needs graph=folder: type graph=folder graph.path=DIR"
    keys = [known for known in keys_of(command) if known.startswith("hydra") <= key.startswith("hydra")]
    if nearest := nearest_keys(key, keys):
        *others, last = nearest
        return f"{key}: there is no such option; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    parent = key.rpartition(".")[0]
    beside = [known.rpartition(".")[2] for known in keys if parent and known.rpartition(".")[0] == parent]
    return f"{key}: there is no such option" + (f"; {parent} has {', '.join(beside)}" if beside else "")


def keys_of(command: str) -> list[str]:
    """The keys of all options and sections of a command, with the choices that were typed, and of hydra."""
    return list(_keys(_compose(command)))


def no_such_choice(typed: str, group: str, choice: str, names: Sequence[str]) -> str:
    """The error text for a choice that a group of conf/ does not have, with those that it has.

    Args:
        typed: what was typed, such as `discriminator=complx`.
    """
    near = get_close_matches(choice.lower(), names, n=3)
    meant = f"did you mean {' or '.join(near)}? There" if near else "there"
    return f"{typed}: there is no such {group}; {meant} are {', '.join(names)}"


def explain_wrong_value(reason: str) -> str | None:
    """An error text with key, rule and value, if hydra's error `reason` is about a value of the wrong type."""
    found = _WRONG_VALUE.search(reason)
    if found is None:
        return None
    key, value, kind = found.groups()
    return f"{key} must be {_KINDS[kind].format(key=key)}, got {value}"


def nearest_keys(key: str, keys: Sequence[str]) -> list[str]:
    """At most three of `keys`, the most similar first; empty if none is similar to `key`."""
    section = key.rpartition(".")[0]
    likeness = {known: _likeness(key, known) for known in keys}
    if section in keys:
        likeness = {
            known: like for known, like in likeness.items() if like >= _ELSEWHERE or known.rpartition(".")[0] == section
        }
    best = max(likeness.values(), default=0.0)
    near = [known for known in likeness if likeness[known] >= max(_LIKE, best - _NEAR)]
    return sorted(near, key=lambda known: (-likeness[known], known))[:3]


def _likeness(typed: str, known: str) -> float:
    """Similarity of two keys: 1 if the last parts are equal; a bit more with equal parents, less for a deeper key."""
    (place, _, name), (known_place, _, known_name) = typed.rpartition("."), known.rpartition(".")
    words, known_words = name.lower().split("_"), known_name.lower().split("_")
    if words == known_words:
        like = 1.0
    elif "".join(word[:1] for word in words) == known_name:  # learning_rate: lr
        like = 0.9
    elif set(words) <= set(known_words) or set(known_words) <= set(words):  # batch: batch_size
        like = 0.85
    else:
        like = SequenceMatcher(None, name, known_name).ratio()
    return like + 0.2 * SequenceMatcher(None, place, known_place).ratio() - 0.01 * known.count(".")


def _compose(command: str) -> DictConfig:
    """The command's config with the chosen groups, if they exist, and with hydra's own options."""
    # Not `read_arguments`, because other words may be wrong too.
    choices = [line for line in sys.argv[1:] if "=" in line and (CONF / key_of(line)).is_dir()]
    for overrides in (choices, []):
        try:
            if GlobalHydra.instance().is_initialized():
                return compose(command, overrides, return_hydra_config=True)
            with initialize_config_dir(str(CONF), version_base="1.3"):
                return compose(command, overrides, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            continue
    return OmegaConf.create({})


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The keys of all options and sections."""
    for name in map(str, config):
        if name.startswith("_"):  # _target_, _partial_
            continue
        yield f"{prefix}{name}"
        node = None if OmegaConf.is_interpolation(config, name) or OmegaConf.is_missing(config, name) else config[name]
        if isinstance(node, DictConfig):
            yield from _keys(node, f"{prefix}{name}.")
