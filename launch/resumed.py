"""Checks the options of a resumed run: what the run has already done can't be changed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from graph.errors import InputError
from launch.arguments import for_shell, key_of, override
from launch.parts import plain
from launch.strict_yaml import read_yaml
from trainer.loop import Trainer
from trainer.manifest import load_manifest
from trainer.stage import Stage

# Options that may change even if a run has nothing left to train: where it runs, where the files of its graph are (the
# checkpoint has a fingerprint of their content), its tracker, and the memory for ranking.
_ALWAYS_TAKEN = ("resume", "typed", "launch", "graph", "placement", "tracker", "trainer.evaluation_memory_mb")
_NOTHING = object()


def keep_what_is_done(config: DictConfig, typed: Sequence[str], checkpoint: Path) -> None:
    """Keeps the number of epochs of finished stages, which may be defined as a share of `trainer.epochs`.

    Args:
        config: the config of the resumed run; changed in place.
        typed: the options that were typed, now or when the run was started.
    Raises:
        InputError: another number of epochs was typed for a finished stage.
    """
    before = _options_of(checkpoint)
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
    now = dict(_flat(plain(config)))
    changed = [
        f"{key}={now[key]} (was {had})" if key in now else f"{key} (was {had})"
        for key, had in _options_of(checkpoint).items()
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


def _epochs_key(stage: Stage) -> str:
    _, is_pretraining, name = stage.name.partition("pretrain_")
    return f"pretrain.{name}.epochs" if is_pretraining else "trainer.epochs"


def _is_taken(key: str) -> bool:
    return any(key == taken or key.startswith(f"{taken}.") for taken in _ALWAYS_TAKEN)


def _options_of(checkpoint: Path) -> dict[str, Any]:
    """The options, by key, of the run that a checkpoint belongs to; empty if it is not in a run folder."""
    file = checkpoint.parent.parent / "config.yaml"
    if not file.is_file():
        return {}
    options = read_yaml(file)
    if not isinstance(options, dict):
        raise InputError(f"{file} is damaged: it holds no options")
    return dict(_flat(options))


def _flat(options: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
