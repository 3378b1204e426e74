"""Checks the options of a config against the constructors that take them, before anything is built."""

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discriminator.loss.loss import Loss
from discriminator.loss.table_loss import TableLoss
from discriminator.reward import RewardFunction
from discriminator.term.term import Term
from embedding.encoder.encoder import Encoder
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.scoring.scoring import ScoringFunction
from generator.baseline import Baseline
from generator.sampler import NegativeSampler
from graph.errors import InputError
from launch.texts import NAME_BYTES, check_text, shortened
from trainer.averaging.average import Average
from trainer.observer import Observer
from trainer.tracking.tracker import Tracker

_ALLOWED = {int: (int,), float: (int, float), bool: (bool,), str: (str,), NoneType: (NoneType,)}
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}

_GROUPS: dict[type, str] = {
    KGEModel: "discriminator",
    ModelOptimizer: "optimizer",
    Baseline: "baseline",
    NegativeSampler: "generator",
}
"""For a constructor's parameter of this type, the folder of conf/ with its choices."""
_KINDS: dict[str, tuple[type, ...]] = {
    "discriminator": (KGEModel,),
    "loss": (Loss, TableLoss),
    "term": (Term,),
    "reward": (RewardFunction,),
    "optimizer": (ModelOptimizer,),
    "baseline": (Baseline,),
    "generator": (NegativeSampler,),
    "encoder": (Encoder,),
    "average": (Average,),
    "tracker": (Tracker,),
    "quality": (Observer,),
}
"""For a folder of conf/, the types that its choices may have."""
_OPTIONAL = ("encoder", "average", "quality")
_CHOSEN = ("graph", "placement", "discriminator", "loss", "reward", "optimizer", "generator", *_OPTIONAL)

# The largest float32: a larger number would become infinite.
_LARGEST = 3.4e38
_INTEGERS = 2**31
_SEEDS = 2**63  # as in a checkpoint's manifest
_WIDTHS = 2**20
"""A larger dimension must be a mistake: it would take minutes until memory runs out."""


def check_options(config: DictConfig) -> None:
    """Checks the config of a run: first each value, then each node with a `_target_` against its signature.

    Raises:
        InputError: a value is not finite or too large; an option is unknown, missing, of the wrong type, or must be
            chosen from a group. Names the config key.
    """
    check_values(config)
    for key, group in _places(config):
        node = config
        for part in key.split("."):
            node = node[part]
        if node is not None or (group not in _OPTIONAL and not key.startswith("pretrain.")):
            _check_choice(key, group, node, given=group == "generator")


def check_sections(config: DictConfig) -> None:
    """Raises InputError if a section, such as `trainer`, was replaced by a single value."""
    pretrain = ("pretrain", "pretrain.generator", "pretrain.discriminator")
    for key in ("launch", "trainer", "terms", "trackers", *pretrain, "grow"):
        section = OmegaConf.select(config, key)
        if not isinstance(section, DictConfig):
            raise InputError(f"{key} must hold options, as in conf/train.yaml, got {shortened(section)}")


def check_values(config: DictConfig) -> None:
    """Checks all numbers and texts of a config for size. Raises InputError with the config key."""
    for key, value in _leaves(config, ""):
        if isinstance(value, str):
            check_text(key, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(key, value)


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for name in node:
            path = f"{key}.{name}" if key else str(name)
            try:
                value = node[name]
            except OmegaConfBaseException as error:
                raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
            yield from _leaves(value, path)
    elif isinstance(node, ListConfig):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{key}[{number}]")
    else:
        yield key, node


def _check_number(key: str, value: float) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{key} must be a finite number, got {value}")
        if abs(value) > _LARGEST:
            raise InputError(f"{key} must be from -{_LARGEST} to {_LARGEST}, got {value}")
        return
    name = key.rsplit(".", maxsplit=1)[-1]
    limit = _SEEDS if name.startswith("seed") else _WIDTHS if name.endswith("dim") else _INTEGERS
    if abs(value) >= limit:
        raise InputError(f"{key} must be below {limit}, got {shortened(value)}")


def _places(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Config key and group of each choice at the top level, in `terms`, in `trackers` and in `pretrain`."""
    yield from ((group, group) for group in _CHOSEN if group in config)
    for key, group in (("terms", "term"), ("trackers", "tracker")):
        yield from ((f"{key}.{name}", group) for name in config.get(key) or {})
    for stage in config.get("pretrain") or {}:
        yield from ((f"pretrain.{stage}.{name}", group) for name, group in (("loss", "loss"), ("sampler", "generator")))


def _check_choice(key: str, group: str, node: Any, *, given: bool = False) -> None:
    """Checks that a node was chosen from a group, and its options; for `given` see `_check_complete`."""
    if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
        raise InputError(f"{key} must be chosen from a group, {_spelling(key, group, node)}, got {shortened(node)}")
    target = _target_of(key, node)
    kinds = _KINDS.get(group, ())
    if kinds and not (isinstance(target, type) and issubclass(target, kinds)):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{key}._target_ must name a {names}, got {shortened(node._target_)}")
    _check_node(key, target, node, given=given)


def _spelling(key: str, group: str, node: Any = None) -> str:
    """How to type a choice."""
    name = node if isinstance(node, str) and len(node) < NAME_BYTES else "NAME"
    if group == "term":
        return f"term=[{name}]"
    return f"{group}={name}" if key == group else f"{group}@{key}={name}"


def _target_of(key: str, node: DictConfig) -> Callable[..., Any]:
    module, _, name = str(node.get("_target_")).rpartition(".")
    try:  # as hydra does, but without hydra's log lines
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module that is imported may raise anything
        raise InputError(
            f"{key}._target_ must name a class of this project, got {shortened(node.get('_target_'))}"
        ) from error


def _check_node(key: str, target: Callable[..., Any], node: DictConfig, *, given: bool = False) -> None:
    """Checks the options of a target and of all nodes below it; for `given` see `_check_complete`."""
    parameters = {
        name: each
        for name, each in inspect.signature(target).parameters.items()
        if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }
    for name, value in node.items():
        path = f"{key}.{name}"
        if name in ("_target_", "_partial_"):
            continue
        if name not in parameters:
            others = ", ".join(parameters) or "none"
            raise InputError(f"{path}: {node._target_} has no such option; it has {others}")
        _check_value(path, value, parameters[str(name)].annotation)
    _check_complete(key, parameters, node, given=given)
    # Such a generator passes its own dim to its model.
    if "dim" in node and isinstance(node.get("model"), DictConfig) and node.model.get("dim") != node.dim:
        raise InputError(f"{key}.model.dim is set by {key}.dim, which is {node.dim}, got {node.model.get('dim')}")


def _check_complete(key: str, parameters: Mapping[str, Parameter], node: DictConfig, *, given: bool) -> None:
    """Checks that no needed option is missing, and that `_partial_` is true if code adds arguments later.

    Args:
        given: True if code adds arguments whatever `_partial_` is.
    """
    missing = [name for name, each in parameters.items() if name not in node and each.default is Parameter.empty]
    for name in missing:
        each = parameters[name]
        plain = all(kind in _ALLOWED for kind in _kinds_of(each.annotation))
        by_code = name == "name" or (each.kind is not Parameter.KEYWORD_ONLY and (not plain or name in ("dim", "seed")))
        if not by_code:
            raise InputError(f"{key}.{name} is missing; leave out ~{key}.{name}, or say {key}.{name}=VALUE")
    partial = node.get("_partial_", False)
    if partial is not bool(missing) and not given:
        why = f"it is completed later, with {' and '.join(missing)}" if missing else "it is complete as it is"
        plus = "" if "_partial_" in node else "+"
        raise InputError(
            f"{key} needs {plus}{key}._partial_={str(bool(missing)).lower()} beside its choice, because {why}"
        )


def _check_value(key: str, value: Any, annotation: Any) -> None:
    if get_origin(annotation) is Mapping:
        if not isinstance(value, DictConfig):
            raise InputError(f"{key} must hold choices by name, as in conf/, got {shortened(value)}")
        for name, part in value.items():
            _check_value(f"{key}.{name}", part, get_args(annotation)[1])
        return
    kinds = _kinds_of(annotation)
    made = next((kind for kind in map(_made_by, kinds) if kind is not None), None)
    if made is ScoringFunction:
        if not isinstance(value, DictConfig):
            owner = key.removesuffix(".scoring")
            raise InputError(
                f"{key} comes with the choice of a model, {_spelling(owner, 'discriminator', value)}, "
                f"got {shortened(value)}"
            )
        target = _target_of(key, value)
        if not (isinstance(target, type) and issubclass(target, ScoringFunction)):
            raise InputError(f"{key}._target_ must name a ScoringFunction, got {shortened(value._target_)}")
        _check_node(key, target, value)
    elif made is not None:
        _check_choice(key, _GROUPS[made], value, given=made is NegativeSampler)
    else:
        _check_type(key, value, kinds)


def _kinds_of(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _made_by(kind: Any) -> type | None:
    """The class of this project that a parameter is, or that it makes when called; None for a plain type."""
    if get_origin(kind) is Callable:
        kind = get_args(kind)[-1]
    return next(
        (each for each in (*_GROUPS, ScoringFunction) if isinstance(kind, type) and issubclass(kind, each)), None
    )


def _check_type(key: str, value: Any, kinds: tuple[Any, ...]) -> None:
    """Checks plain types and lists of them. Constructors check all other types themselves."""
    lists = [get_args(kind)[0] for kind in kinds if get_origin(kind) is Sequence]
    if lists:
        if value is None and NoneType in kinds:
            return
        if not isinstance(value, ListConfig):
            raise InputError(f"{key} must be a list, as in {key}=[1,2], got {shortened(value)}")
        for number, each in enumerate(value):
            _check_type(f"{key}[{number}]", each, (lists[0],))
        return
    plain = [kind for kind in kinds if kind in _ALLOWED]
    # bool is an int in Python, but no user means 1 by true
    if plain and not any(type(value) in _ALLOWED[kind] for kind in plain):
        names = " or ".join(_NAMES[kind] for kind in plain)
        raise InputError(f"{key} must be {names}, got {shortened(value)}")
