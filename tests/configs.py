"""Configs as hydra composes them from conf/, each composed once in a process: that takes tenths of a second."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from launch import schema

CONF = Path(__file__).parents[1] / "conf"
WITH_VECTORS = sorted(
    path.stem for path in (CONF / "discriminator").glob("*.yaml") if "embedding.paths." not in path.read_text()
)
"""The models that learn a vector for each entity; the others read edges."""


def composed(file: str, *options: str) -> DictConfig:
    """What `conf/FILE.yaml` with these overrides gives; a copy of the caller's own.

    Without a recipe, unless one or an experiment is among the overrides: what a test is about should not change with
    the options that a model is trained best with.
    """
    plain = file == "train" and not any(option.startswith(("recipe=", "experiment=")) for option in options)
    return deepcopy(_compose(file, ("recipe=none", *options) if plain else options))


@cache
def _compose(file: str, options: tuple[str, ...]) -> DictConfig:
    schema.register()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ADVKGE_STAMP", "now")
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(file, list(options))
