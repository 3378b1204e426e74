"""What a command says before it imports torch, which takes seconds: its help, and what is wrong with the words typed.

Only `advkge COMMAND` comes here. Each command checks its words again, and more of them, when it is started as a file.
"""

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields, is_dataclass

import hydra
from omegaconf import DictConfig

from graph.errors import InputError
from launch import schema
from launch.arguments import key_of, read_arguments
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.groups import FOREIGN, settle_choices
from launch.help import help_of
from launch.plain_words import refuse_plain_words
from launch.suggestions import CONF, no_such_option
from launch.this_command import this_command

_OF_GROUPS = ("train", "search", "scorecard", "prepare")
"""Commands with options of groups of conf/, such as `graph=umls`."""
_WORD = re.compile(r"\w+(?=:)")


def has_said_all(command: str, words: Sequence[str]) -> bool:
    """Prints the help of a command, or ends it by one line for words that are wrong; false if it is to be run."""
    schema.register()
    with unread_output_dropped(), one_line_errors():
        refuse_plain_words(words, command)
        # The values of a search may be intervals, which this reads as no option.
        wants_help = {"--help", "-h"} & set(words) if command == "search" else read_arguments(words).wants_help
        if wants_help:
            _help(command)
        else:
            if command in _OF_GROUPS:
                settle_choices(words)
            _refuse_unknown(command, words)
        return bool(wants_help)


def _help(command: str) -> None:
    if command != "train":
        print(help_of(command))
        return
    sys.argv[1:] = settle_choices(sys.argv[1:])
    said = io.StringIO()
    with one_line_config_errors(command), redirect_stdout(said), suppress(SystemExit):  # how hydra ends its help
        _hydra_s_help()
    print(said.getvalue().replace("python launch/train.py", " ".join(this_command())).rstrip())


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def _hydra_s_help(_: DictConfig) -> None:
    """Hydra prints the help, and does not come here."""


def _refuse_unknown(command: str, words: Sequence[str]) -> None:
    """Raises InputError for an option whose last word is in no file of conf/; hydra finds all other unknown ones."""
    if any(word.lstrip("+~").startswith(FOREIGN) for word in words):
        return
    typed = [word.partition("=")[0] for word in words if "=" in word and not word.startswith(("-", "+", "hydra"))]
    if not typed:
        return
    known = {path.stem for path in CONF.iterdir()}
    for file in CONF.rglob("*.yaml"):
        known.update(_WORD.findall(file.read_text()))
    for each in vars(schema).values():
        if is_dataclass(each):
            known.update(field.name for field in fields(each))
    for key in map(key_of, typed):
        if key.partition("@")[0].rpartition(".")[2] not in known:
            raise InputError(no_such_option(key, command))
