"""What the ranks of a run agree on before it goes on: the checkpoint, and the options that it was saved with.

Machines whose run folder is on a disk of their own may hold an earlier checkpoint than others, or none.
"""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from graph.errors import InputError
from launch.arguments import AUTO
from trainer.disks import Disks
from trainer.manifest import load_manifest
from trainer.run_copies import bring_run, newest
from trainer.runtime import Runtime


@dataclass(frozen=True)
class Beginning:
    """The options of a run, the same on all ranks."""

    config: DictConfig
    typed: list[str]
    """The overrides: those that were typed now, behind those of a run that goes on."""
    disks: Disks


def agree_on_beginning(config: DictConfig, typed: list[str], folder: Path, runtime: Runtime) -> Beginning:
    """Brings the newest checkpoint of a run that goes on to all disks, and its options to all ranks. Collective.

    With `resume=auto`, `resume` becomes the run folder if a rank sees a checkpoint there, else null.

    Args:
        config: may have interpolations.
        typed: this rank's overrides.
    Raises:
        InputError: a file can't be read or written.
    """
    disks = Disks.of(folder, runtime) if runtime.on_several_machines else Disks.one(runtime)
    goes_on = config.resume is not None and (config.resume == AUTO or Path(config.resume) == folder)
    if not goes_on:
        return Beginning(config, typed, disks)
    holder = newest(folder, runtime)
    if holder is None:
        if config.resume == AUTO:
            config.resume = None
        return Beginning(config, typed, disks)
    if runtime.world_size > 1:
        bring_run(folder, disks, holder)
        text, typed = runtime.gather((OmegaConf.to_yaml(config), typed))[holder]
        made = OmegaConf.create(text)
        assert isinstance(made, DictConfig)
        config = made
    config.resume = str(folder)
    return Beginning(config, typed, disks)


def refuse_other_checkpoints(checkpoint: Path | None, runtime: Runtime) -> None:
    """Raises InputError if ranks would go on from different checkpoints. Collective."""
    digests = runtime.gather(None if checkpoint is None else sorted(load_manifest(checkpoint)["files"].items()))
    for rank, digest in enumerate(digests):
        if digest != digests[0]:
            raise InputError(
                f"resume: rank {rank} sees another checkpoint at this path than rank 0; the machines' disks must hold "
                "the same one"
            )
