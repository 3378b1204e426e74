"""Pointers: small JSON files that give a name ("latest", "best_adversarial") to a checkpoint."""

import json
from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import is_file, lies_inside, read_json, shown, write_text
from trainer.manifest import is_name, load_manifest


def write_pointer(pointer: Path, checkpoint: str) -> None:
    """Writes a pointer to a checkpoint in the same folder."""
    write_text(pointer, json.dumps({"checkpoint": checkpoint}))


def read_pointer(pointer: Path) -> str:
    """The name of the checkpoint that a pointer names, in the pointer's folder.

    Raises:
        InputError: the pointer is damaged, or is a link to a file outside its folder.
    """
    if not lies_inside(pointer, pointer.parent):
        raise InputError(f"{pointer} is a link to a file outside of its folder, which is not followed")
    content = read_json(pointer)
    if not isinstance(content, dict) or list(content) != ["checkpoint"] or not is_name(content["checkpoint"]):
        raise InputError(f"{pointer} is damaged: it should name a checkpoint of its folder, got {shown(content)}")
    return content["checkpoint"]


def pointed_checkpoint(pointer: Path) -> Path:
    """The path of the checkpoint that a pointer names.

    Raises:
        InputError: as for `read_pointer`, or the checkpoint is a link to outside the folder.
    """
    checkpoint = pointer.parent / read_pointer(pointer)
    if not lies_inside(checkpoint, pointer.parent):
        raise InputError(f"{pointer}: {checkpoint.name} is a link out of the folder, which is not followed")
    return checkpoint


def trained_checkpoint(folder: Path, key: str = "run") -> Path:
    """The checkpoint that a run's result is of: the best of its last stage, or the latest if that had no validation.

    Args:
        folder: the run folder.
        key: the option that gave it, for errors.

    Raises:
        InputError: there is no checkpoint.
    """
    stage = load_manifest(find_checkpoint(folder, "latest", key), "stages")["stages"][-1]
    has_best = is_file(folder / "checkpoints" / f"best_{stage}.json")
    return find_checkpoint(folder, f"best_{stage}" if has_best else "latest", key)


def find_checkpoint(path: Path, pointer: str, key: str) -> Path:
    """The checkpoint at a user's path: the path itself, or in a run folder the checkpoint that `pointer` names.

    Args:
        key: the option that gave the path, for errors.

    Raises:
        InputError: there is no checkpoint.
    """
    if is_file(path / "manifest.json"):
        return path
    for folder in (path / "checkpoints", path):
        target = folder / f"{pointer}.json"
        if is_file(target):
            return pointed_checkpoint(target)
    raise InputError(
        f"{key}: no checkpoint at {path}: expected a checkpoint folder with manifest.json, or a run folder with "
        f"checkpoints/{pointer}.json"
    )
