"""Words that are no KEY=VALUE, such as `--epochs 10` or a folder alone: what to type instead."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser

from graph.errors import InputError
from launch.arguments import for_shell, override
from launch.suggestions import CONF, keys_of, nearest_keys

_GROUPS = ("graph", "discriminator", "generator", "loss")
"""Groups whose choices a command may be given as a word alone, such as `advkge train umls`."""
_OF_GROUPS = ("train", "search")
_SHOWN = 80
_FLAGS_FOR_RUN = {"--run", "-r"}
"""Flags of hydra that take no value, and are typed for the option `run`."""


def refuse_plain_words(words: Sequence[str], command: str) -> None:
    """Checks what was typed for words that belong to no option, as other programs have them.

    Args:
        command: its name, which is that of its file in conf/.
    Raises:
        InputError: such a word; says what to type instead.
    """
    parser = get_args_parser()
    known, others = parser.parse_known_args(list(words))
    # Argparse would take --experiment for the beginning of a flag of hydra.
    flags = parser._option_string_actions.keys() - _FLAGS_FOR_RUN
    for word, behind in zip(words, [*words[1:], "-"], strict=True):
        dashed = word.startswith("-") and bool(word.strip("-"))
        of_hydra = word in _FLAGS_FOR_RUN and (behind.startswith("-") or "=" in behind)
        unknown = (
            word in others or word in _FLAGS_FOR_RUN or (word.startswith("--") and word.partition("=")[0] not in flags)
        )
        if dashed and unknown and not of_hydra:
            raise InputError(f"{word[:_SHOWN]}: options have no dashes; {_instead(word, behind, command)}")
    plain = [word for word in known.overrides if "=" not in word and not word.startswith("~")]
    if plain and (meant := _meant(plain, command)) is not None:
        raise InputError(f"{' '.join(plain)} is no option: type {meant}")


def _instead(word: str, behind: str, command: str) -> str:
    """The option for a flag such as `--batch-size=5`, or for `--batch-size` with the word behind it."""
    name, equals, value = word.lstrip("-").partition("=")
    if not equals:
        value = "VALUE" if behind.startswith("-") or "=" in behind else behind
    if name == "graph.path" and command in _OF_GROUPS:
        return f"type {for_shell('graph=folder', f'graph.path={value}')}"
    keys = [key for key in keys_of(command) if not key.startswith(("hydra", "suggested."))]
    name = "run" if word in _FLAGS_FOR_RUN else name.replace("-", "_")
    if found := _named(name, keys):
        return f"type {' or '.join(for_shell(f'{key}={value}') for key in found)}"
    if nearest := nearest_keys(name, keys):
        return f"did you mean {' or '.join(for_shell(f'{key}={value}') for key in nearest)}?"
    return f"they are typed as KEY=VALUE, and there is none like {name[:_SHOWN]}"


def _named(name: str, keys: Sequence[str]) -> list[str]:
    """The options of this name, or whose last part it is: those that are least deep."""
    if name in keys or (CONF / name).is_dir():
        return [name]
    found = [key for key in keys if key.rpartition(".")[2] == name]
    least = min((key.count(".") for key in found), default=0)
    return [key for key in found if key.count(".") == least]


def _meant(plain: Sequence[str], command: str) -> str | None:
    """The options that words without a key may stand for; None if nothing is likely."""
    own = set(re.findall(r"^(\w+):", (CONF / f"{command}.yaml").read_text(), re.MULTILINE))
    if "runs" in own and all(_is_path(word) for word in plain):
        return for_shell(f"runs=[{','.join(plain)}]")
    [*others, word] = plain
    if others:
        return None
    lines = next(_lines(word, command, own), None)
    return None if lines is None else for_shell(*lines)


def _lines(word: str, command: str, own: set[str]) -> Iterator[list[str]]:
    if command in _OF_GROUPS:
        yield from ([f"{group}={word}"] for group in _GROUPS if (CONF / group / f"{word}.yaml").is_file())
    if not _is_path(word):
        return
    path = Path(word)
    if "sweep" in own and (path / "multirun.yaml").is_file():
        yield [override("sweep", word)]
    if "run" in own:
        yield [override("run", word)]
    if "path" in own:
        yield [override("path", word)]
    if command == "train" and (path / "config.yaml").is_file():
        yield [override("resume", word)]
    if command in _OF_GROUPS and path.is_dir():
        yield ["graph=folder", override("graph.path", word)]


def _is_path(word: str) -> bool:
    try:
        return "/" in word or Path(word).exists()
    except OSError:  # the name is too long
        return False
