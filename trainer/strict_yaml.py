"""Reads the yaml files of a run folder, which may come from someone else: only plain values, and no YAML bombs."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from graph.errors import InputError
from trainer.checkpoint_files import read_small_file, shown

_MOST_BYTES = 1 << 15  # ours have 3,000; PyYAML takes half a second for as many as this
_MOST_LEVELS = 30
_MOST_CHARACTERS = 5000  # of one value
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}
# Like omegaconf, which wrote these files: 1e-3 is a number, and a date is text.
_FLOAT = re.compile(
    r"""[-+]?[0-9]+(_[0-9]+)*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9]+(_[0-9]+)*[eE][-+]?[0-9]+
    |\.[0-9]+(_[0-9]+)*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)""",
    re.VERBOSE,
)


class _Refused(yaml.YAMLError):
    """The file uses YAML features that our own files never use."""


class _StrictLoader(yaml.SafeLoader):
    """Allows scalars, lists, and mappings with text keys; no aliases, merge keys, tags or deep nesting."""

    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise _Refused(f"line {self.peek_event().start_mark.line + 1} has an alias, which is not read")
        self.level += 1
        if self.level > _MOST_LEVELS:
            raise _Refused(f"it is nested more than {_MOST_LEVELS} levels deep")
        node = super().compose_node(parent, index)
        self.level -= 1
        if node is not None and node.tag not in _TAGS:
            kind = "merge key" if node.tag == _TAG + "merge" else f"tag {shown(node.tag)}"
            raise _Refused(f"line {node.start_mark.line + 1} has a {kind}, which is not read")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise _Refused(f"the mapping that begins on line {node.start_mark.line + 1} has a key twice")
        return node


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TAG + "timestamp", _TAG + "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(_TAG + "float", re.compile(f"^(?:{_FLOAT.pattern})$", re.VERBOSE), "-+0123456789.")


def read_yaml(path: Path) -> Any:
    """The plain values of a file: None, bool, int, float, str, and lists and mappings of them.

    Raises:
        InputError: the file is missing or contains anything else; names the file and the problem.
    """
    content = read_small_file(path, most_bytes=_MOST_BYTES)
    try:
        values = _StrictLoader(content.decode()).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:300]}") from error
    _check(path, "", values)
    return values


def _check(path: Path, key: str, value: Any) -> None:
    if isinstance(value, dict):
        names = [name for name in value if not isinstance(name, str)]
        if names:
            raise InputError(f"{path} is damaged: {key or 'it'} must have texts as keys, got {shown(names[0])}")
        for name, part in value.items():
            _check(path, f"{key or 'a key'}", name)
            _check(path, f"{key}.{name}" if key else name, part)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check(path, f"{key}[{number}]", part)
    elif type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise InputError(f"{path}: {key} must be below 2^63, got a number of {value.bit_length()} bits")
    elif isinstance(value, str):
        # No file name has control characters, and they should not be printed to a terminal.
        odd = [character for character in value if unicodedata.category(character) in ("Cc", "Cs")]
        if odd or len(value) > _MOST_CHARACTERS:
            raise InputError(
                f"{path}: {key} must be at most {_MOST_CHARACTERS} characters without control characters, "
                f"got {shown(value)}"
            )
