"""Pointers: small files that say which checkpoint a name ("latest", "best_adversarial") stands for."""

import json
from pathlib import Path

from graph.errors import InputError
from trainer.checkpoint_files import lies_inside, read_json, shown, write_text
from trainer.manifest import is_name


def write_pointer(pointer: Path, checkpoint: str) -> None:
    """Makes the pointer stand for a checkpoint beside it."""
    write_text(pointer, json.dumps({"checkpoint": checkpoint}))


def read_pointer(pointer: Path) -> str:
    """The name of the checkpoint that a pointer stands for: a plain name, of the pointer's own folder.

    Raises:
        InputError: the pointer is damaged, or leads out of its folder.
    """
    if not lies_inside(pointer, pointer.parent):
        raise InputError(f"{pointer} is a link to a file outside of its folder, which is not followed")
    content = read_json(pointer)
    if not isinstance(content, dict) or list(content) != ["checkpoint"] or not is_name(content["checkpoint"]):
        raise InputError(f"{pointer} is damaged: it should name a checkpoint of its folder, got {shown(content)}")
    return content["checkpoint"]


def pointed_checkpoint(pointer: Path) -> Path:
    """The checkpoint that a pointer stands for, beside it.

    Raises:
        InputError: see `read_pointer`; or the checkpoint is a link that leads out of the folder.
    """
    checkpoint = pointer.parent / read_pointer(pointer)
    if not lies_inside(checkpoint, pointer.parent):
        raise InputError(f"{pointer}: {checkpoint.name} is a link out of the folder, which is not followed")
    return checkpoint
