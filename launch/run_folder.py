"""What a run folder must be before a resumed run writes into it."""

from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import lies_inside

_TRACK = "wandb"  # whose own links and files are left to it


def check_run_folder(folder: Path) -> None:
    """Raises InputError if what a resumed run would write to or remove is a link out of its folder, or no file at all.

    A folder that came from someone else could have metrics.jsonl lead to a file of the user's.
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
