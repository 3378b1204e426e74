"""Checks choices from the groups of conf/ before hydra composes a config.

hydra itself gives a Python traceback for `average=null` and `quality=true`, and lists no names for `term=[n4]`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, QuotedString
from hydra.errors import HydraException

from graph.errors import InputError
from launch.arguments import for_shell, override
from launch.suggestions import no_such_choice
from launch.texts import check_text, shortened

_CONF = Path(__file__).parents[1] / "conf"
_OPTIONAL = ("encoder", "average", "quality", "experiment")
"""Groups that a run need not choose from."""
_LISTS = ("term", "tracker")
"""Groups of which a run may choose several."""
_PART = re.compile(r"(?:generator|pretrain\.\w+\.sampler)\.parts\.(\w+)")
"""Where a sampler is that is a part of a mixture."""
_FOLDERS = ("resume", "hydra.run.dir", "hydra.sweep.dir")
"""Options that are used before there is a config to check."""
FOREIGN = ("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath")
"""Arguments that add choices outside of conf/."""


def settle_choices(arguments: Sequence[str], *, with_recipe: bool = True) -> list[str]:
    """The arguments as hydra can take them: `average=null` becomes `~average`, `tracker=null` becomes `tracker=[]`.

    Args:
        with_recipe: `discriminator=rotate` becomes `recipe=rotate`, which also chooses that model's loss, optimiser and
            sampler, unless a recipe or an experiment is named.
    Raises:
        InputError: a choice that its group does not have; lists the choices.
    """
    settled = list(arguments)
    foreign = any(argument.lstrip("+~").startswith(FOREIGN) for argument in arguments)
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key in _FOLDERS:
            check_text(key, value)
        override = _parsed(argument)
        if override is None or override.is_delete() or not (_CONF / override.key_or_group).is_dir():
            continue
        group = override.key_or_group
        if override.value() is None and group in _OPTIONAL and override.package is None:
            # It also cancels an earlier choice.
            settled = [each for each in settled if _group_of(each) != group]
            settled.append(f"~{group}")
        elif override.value() is None and group in _LISTS and override.package is None:
            settled = [each for each in settled if _group_of(each) != group]
            settled.append(f"{group}=[]")
        elif not foreign:
            for choice in _choices(override):
                _check(group, override.get_key_element(), choice)
    if "experiment" not in map(_group_of, settled):  # it may have parts of its own
        settled = list(map(_added, settled))
    return _with_recipe(settled) if with_recipe else settled


def _added(argument: str) -> str:
    """A choice for a new part of a mixture as hydra has it, `+generator@generator.parts.NAME=...`."""
    override = _parsed(argument)
    if override is None or override.type != OverrideType.CHANGE or override.key_or_group != "generator":
        return argument
    part = _PART.fullmatch(override.package or "")
    own = yaml.safe_load((_CONF / "generator" / "mixture.yaml").read_text())["parts"] if part else {}
    return f"+{argument}" if part and part[1] not in own else argument


def _with_recipe(arguments: list[str]) -> list[str]:
    """Replaces `discriminator=NAME` by `recipe=NAME`; a model without a recipe gets `recipe=none`."""
    chosen = {_group_of(argument) for argument in arguments}
    if {"recipe", "experiment"} <= chosen:
        raise InputError("an experiment names its recipe, and its model with it: type experiment= or recipe=, not both")
    if "discriminator" not in chosen or chosen & {"recipe", "experiment", "resume"}:
        return arguments
    settled = []
    for argument in arguments:
        override = _parsed(argument)
        if override is None or _group_of(argument) != "discriminator":
            settled.append(argument)
            continue
        names = [str(choice) for choice in _choices(override)]
        without = [name for name in names if not (_CONF / "recipe" / f"{name}.yaml").is_file()]
        if not without:
            settled.append(argument.replace("discriminator=", "recipe=", 1))
        elif len(without) == len(names):
            settled += [argument, "recipe=none"]
        else:
            raise InputError(
                f"{argument}: conf/recipe has no file for {', '.join(without)}, but one for others; add recipe=none to "
                "train all alike, or sweep over them in two commands"
            )
    return settled


def _parsed(argument: str) -> Override | None:
    """None for an argument that is no override, such as --multirun, or that hydra can't read and will report."""
    if argument.startswith("-"):
        return None
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _group_of(argument: str) -> str | None:
    override = _parsed(argument)
    return None if override is None or override.package is not None else override.key_or_group


def _choices(override: Override) -> Iterator[Any]:
    """Each value of a sweep or a list."""
    value = override.value()
    if isinstance(value, Glob):  # hydra finds the names itself
        return
    values: Sequence[Any] = value.list if isinstance(value, ChoiceSweep) else [value]
    if isinstance(value, list):
        values = value
    for each in values:
        yield each.text if isinstance(each, QuotedString) else each


def _check(group: str, key: str, choice: Any) -> None:
    names = sorted(file.stem for file in (_CONF / group).glob("*.yaml"))
    if choice in names or (isinstance(choice, str) and "${" in choice):
        return
    if group == "graph" and _is_folder(choice):
        raise InputError(f"graph={_shown(choice)} is a folder: type {for_shell('graph=folder', _path(choice))}")
    none = f"; {group}=null for none" if group in _OPTIONAL and choice is not None else ""
    raise InputError(no_such_choice(f"{key}={_shown(choice)}", group, str(choice), names) + none)


def _is_folder(choice: Any) -> bool:
    try:
        return isinstance(choice, str) and Path(choice).is_dir()
    except OSError:  # the name is too long
        return False


def _path(folder: str) -> str:
    return override("graph.path", folder)


def _shown(choice: Any) -> str:
    if choice is None:
        return "null"
    return str(choice).lower() if isinstance(choice, bool) else shortened(str(choice)).strip("'")
