"""Refuses a checkpoint whose rows another model has learned: their shapes may fit, but their numbers mean nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from graph.errors import InputError
from launch.config_of import flat, options_of
from launch.parts import plain

SECTIONS = {"discriminator": ("discriminator", "encoder"), "generator": ("generator.model",)}
"""Where the options of each model are."""
_PARTS = (
    *("scoring", "reciprocal", "composition", "decomposition", "normalisation", "layers", "residual", "batch_norm"),
    "_target_",
)
"""What gives a model's numbers their meaning; the first word of a key below a section."""
_FREE = "scoring.precision"


def refuse_another_model(config: DictConfig, checkpoint: Path, option: str, names: Iterable[str] = SECTIONS) -> None:
    """Compares the models of a run with those that a checkpoint has, as its run folder's config.yaml says.

    Args:
        config: of the run that takes the checkpoint.
        option: the config key that names the checkpoint, for the error.
        names: of the models that are taken.
    Raises:
        InputError: an option that gives a model's numbers their meaning differs; names it and both values.
    """
    now, before = dict(flat(plain(config))), options_of(checkpoint)
    if before and "discriminator" in names and ("encoder._target_" in now) != ("encoder._target_" in before):
        had, has = (each.get("encoder._target_", "null").rpartition(".")[2] for each in (before, now))
        raise InputError(
            f"{option}: encoder={has} in this run, but encoder={had} in the run of {checkpoint}, and the rows that one "
            "model learned mean nothing to another; leave out the option that changes it"
        )
    for section in (section for name in names for section in SECTIONS[name]):
        for key, had in before.items():
            part = key.removeprefix(f"{section}.")
            if part in (key, _FREE) or part.split(".")[0] not in _PARTS:
                continue
            if key in now and now[key] != had:
                raise InputError(
                    f"{option}: {_shown(key, now)} in this run, but {_shown(key, before)} in the run of {checkpoint}, "
                    "and the rows of one model mean nothing to another; leave out the option that changes it"
                )


def _shown(key: str, options: Mapping[str, Any]) -> str:
    value = options[key]
    return f"{key}={value.rpartition('.')[2] if key.endswith('_target_') else value}"
