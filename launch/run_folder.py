"""Checks a run folder before a resumed run writes into it."""

from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import lies_inside

_TRACK = "wandb"  # wandb's own folder, which is not checked


def check_run_folder(folder: Path) -> None:
    """Raises InputError if a resumed run would write to or remove a link out of its folder, a pipe or a device.

    In a folder from someone else, metrics.jsonl could be a link to one of the user's files.
    """
    found = [path for path in folder.iterdir() if path.name != _TRACK or path.is_symlink()]
    if (folder / "checkpoints").is_dir():
        found += (folder / "checkpoints").rglob("*")
    for path in found:
        if path.is_symlink() and not lies_inside(path, folder):
            raise InputError(
                f"{path} is a link to {path.readlink()}, outside of the run folder; a resumed run writes into "
                "its folder alone: put the files themselves there"
            )
        if not (path.is_symlink() or path.is_file() or path.is_dir()):
            raise InputError(f"{path} must be a file or a folder, but is a pipe or a device")
