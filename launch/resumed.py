"""Checks the options of a resumed run: what the run has already done can't be changed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch.arguments import for_shell, key_of, override
from launch.config_of import flat, options_of
from launch.parts import plain
from launch.run_options import GONE
from launch.typed import typed_options
from trainer.loop import Trainer
from trainer.manifest import load_manifest
from trainer.stage import Stage
from trainer.strict_yaml import read_yaml

# Options that may change even if a run has nothing left to train: where it runs, where the files of its graph are (the
# checkpoint has a fingerprint of their content), its trackers, and the memory for ranking.
_ALWAYS_TAKEN = (
    *("resume", "typed", "launch", "graph", "grow", "placement", "trackers"),
    *("trainer.evaluation_memory_mb", *GONE),
)
_NOTHING = object()
_MOST_SHOWN = 6


def keep_what_is_done(config: DictConfig, typed: Sequence[str], checkpoint: Path) -> None:
    """Keeps the number of epochs of finished stages, which may be defined as a share of `trainer.epochs`.

    Args:
        config: the config of the resumed run; changed in place.
        typed: the options that were typed, now or when the run was started.
    Raises:
        InputError: another number of epochs was typed for a finished stage.
    """
    before = options_of(checkpoint)
    manifest = load_manifest(checkpoint, "stages", "cursor")
    stages: list[str] = manifest["stages"]
    ahead = stages[manifest["cursor"]["stage"] :]
    keys = {key_of(line) for line in typed}
    for name in ("generator", "discriminator"):
        if f"pretrain_{name}" in ahead:
            continue
        for option in ("epochs", "valid_every", "patience"):
            key = f"pretrain.{name}.{option}"
            value, had = config.pretrain[name][option], before.get(key, _NOTHING)
            if value == had or had is _NOTHING:
                continue
            if key in keys:
                raise InputError(f"{key}={value} comes too late: {checkpoint} is past that stage, which had {had}")
            if config.pretrain[name].epochs > 0:  # else the stages differ, which is refused later
                config.pretrain[name][option] = had


def derived_options(config: DictConfig) -> set[str]:
    """The keys of options that follow from others, so that they change when those are typed. Call before resolving."""
    return {key for key, value in flat(_unresolved(config)) if "${" in str(value)}


def refuse_what_was_forgotten(config: DictConfig, typed: Sequence[str], derived: Collection[str], run: Path) -> None:
    """Refuses to go on with values of conf/ if a run folder has lost the list of its typed options.

    Args:
        derived: from `derived_options`.
        run: what `resume` names.
    Raises:
        InputError: overrides.yaml is missing or empty, but config.yaml has other values than this run; names them.
    """
    file = run / "overrides.yaml"
    if not (run / "config.yaml").is_file() or (file.is_file() and read_yaml(file)):
        return
    now, keys = dict(flat(plain(config))), typed_options(typed)
    changed = [
        f"{key}={now[key]} (was {had})"
        for key, had in options_of(run / "checkpoints" / "any").items()
        if key in now and now[key] != had and not _is_taken(key) and not _is_below(key, keys) and key not in derived
    ]
    if changed:
        shown = ", ".join(changed[:_MOST_SHOWN]) + (", ..." if len(changed) > _MOST_SHOWN else "")
        raise InputError(
            f"resume: {file} is {'empty' if file.is_file() else 'missing'}, which has the options that the run was "
            f"started with; without them it would go on with {shown}; type them again"
        )


def refuse_what_is_too_late(config: DictConfig, trainer: Trainer, checkpoint: Path) -> None:
    """Raises InputError for new values of options that have no effect any more."""
    if trainer.cursor.stage == len(trainer.stages):
        raise InputError(
            f"resume: {checkpoint} is of a finished run of an earlier version, which kept nothing to go on from; train "
            f"its model on by a new run, {for_shell(override('pretrain.discriminator.checkpoint', str(checkpoint)))}"
        )
    stage = trainer.stages[trainer.cursor.stage]
    epochs = trainer.cursor.stage_step / stage.order.steps_per_epoch
    if trainer.cursor.stage_step > stage.steps:
        raise InputError(f"{_epochs_key(stage)}={stage.epochs} is too few: {checkpoint} has done {epochs:g} of them")
    if trainer.has_steps_left:
        return
    now = dict(flat(plain(config)))
    changed = [
        f"{key}={now[key]} (was {had})" if key in now else f"{key} (was {had})"
        for key, had in options_of(checkpoint).items()
        if now.get(key, _NOTHING) != had and not _is_taken(key)
    ]
    if not changed:
        return
    if trainer.cursor.stage_step < stage.steps:
        reason = (
            f"stopped after {epochs:g} epochs, because its validation {trainer.validation.metric} had not risen "
            f"{trainer.cursor.stale} times (trainer.patience={stage.patience}); to go on add trainer.patience=0"
        )
    else:
        reason = f"is finished, with {epochs:g} epochs; to go on give it more, as in trainer.epochs={2 * stage.epochs}"
    raise InputError(f"resume: {', '.join(changed)} would have no effect: the run of {checkpoint} {reason}")


def _unresolved(config: DictConfig) -> Mapping[Any, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return values


def _epochs_key(stage: Stage) -> str:
    _, is_pretraining, name = stage.name.partition("pretrain_")
    return f"pretrain.{name}.epochs" if is_pretraining else "trainer.epochs"


def _is_taken(key: str) -> bool:
    return _is_below(key, _ALWAYS_TAKEN)


def _is_below(key: str, sections: Iterable[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)
