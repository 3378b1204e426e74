"""Pointers: small JSON files that give a name ("latest", "best_adversarial") to a checkpoint."""

import json
from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import lies_inside, read_json, shown, write_text
from trainer.manifest import is_name


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
