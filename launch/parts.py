"""Makes the parts of a run from their configs: samplers, losses, terms. Errors name the config key."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict

from discriminator.loss.loss import Loss
from discriminator.loss.table_loss import TableLoss
from discriminator.term.term import Term
from embedding.paths.edge_scoring import EdgeScoring
from generator.sampler import NegativeSampler, SamplerContext
from graph.errors import InputError
from graph.known import KnownTriples


def instantiate(config: DictConfig, **options: Any) -> Any:
    """hydra's instantiate; an InputError of a constructor gets the config key in front, without hydra's text."""
    try:
        return hydra.utils.instantiate(config, **options)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            key = re.search(r"full_key: (\S+)", str(error))
            raise InputError(_with_key(key.group(1) if key else "config", error.__cause__)) from error
        raise


def build_sampler(config: DictConfig, context: SamplerContext, key: str) -> NegativeSampler:
    """Makes a sampler from its config; `key` is its config key, for errors."""
    _complete_later(config)
    return name_key(key, lambda: instantiate(config, _partial_=True)(context))


def _complete_later(config: DictConfig) -> None:
    """Lets a mixture make its parts, and a curriculum its hard sampler, whether or not `_partial_` was typed."""
    for part in [*(config.get("parts") or {}).values(), config.get("hard")]:
        if isinstance(part, DictConfig):
            with open_dict(part):
                part._partial_ = True
            _complete_later(part)


def build_loss(config: DictConfig, known: KnownTriples) -> Loss | TableLoss:
    """Makes a loss from its config. If its yaml has `_partial_: true`, it also gets the train facts."""
    loss = instantiate(config)
    return loss(known) if isinstance(loss, partial) else loss


def build_term(config: DictConfig, context: SamplerContext) -> Term:
    """Makes a term from its config. If its yaml has `_partial_: true`, it also gets the statistics of train."""
    term = instantiate(config)
    return term(context.statistics) if isinstance(term, partial) else term


def learns_vectors(discriminator: DictConfig) -> bool:
    """Whether a model learns a vector for each entity, by its checked config."""
    return not issubclass(hydra.utils.get_class(discriminator.scoring._target_), EdgeScoring)


def name_key(key: str, make: Callable[[], Any]) -> Any:
    """Calls `make`, and puts the config key in front of the text of an InputError."""
    try:
        return make()
    except InputError as error:
        raise InputError(_with_key(key, error)) from error


def _with_key(key: str, error: BaseException) -> str:
    return str(error) if str(error).startswith(key) else f"{key}: {error}"


def plain(config: DictConfig) -> dict[str, Any]:
    """The config as plain Python values, with interpolations resolved."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
