"""TensorBoard's embedding projector: `tensorboard --logdir OUT` shows entities and relations as points.

Each part of the rows is PART_tensors.tsv, a line of numbers for each point, without names. The names are in
entity_metadata.tsv and relation_metadata.tsv, one a line. projector_config.pbtxt says which file belongs to which.
"""

import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from exporting.npy import Shapes
from exporting.text_rows import text_lines
from exporting.trained_model import TrainedModel, split_rows

_BREAKS = re.compile(r"[\t\r\n]")


def write(trained: TrainedModel, folder: Path) -> Shapes:
    """Writes these files; returns the shapes of tensors by file."""
    shapes = {
        f"{part}_tensors.tsv": [trained.graph.num_entities, width] for part, width in trained.entity_parts.items()
    }
    with ExitStack() as opened:
        files = [opened.enter_context((folder / name).open("wb")) for name in shapes]
        for _, rows in trained.entity_blocks():
            for file, part in zip(files, split_rows(rows, trained.entity_parts).values(), strict=True):
                file.writelines(line + b"\n" for line in text_lines(part, "\t"))
    for part, rows in trained.relation_parts.items():
        (folder / f"{part}_tensors.tsv").write_bytes(b"".join(line + b"\n" for line in text_lines(rows, "\t")))
        shapes[f"{part}_tensors.tsv"] = list(rows.shape)
    _write_names(folder / "entity_metadata.tsv", trained.graph.entity_names)
    _write_names(folder / "relation_metadata.tsv", trained.relation_names)
    config = [_entry(part, "entity", shapes) for part in trained.entity_parts]
    config += [_entry(part, "relation", shapes) for part in trained.relation_parts]
    (folder / "projector_config.pbtxt").write_text("".join(config))
    return shapes


def _write_names(path: Path, names: Sequence[str]) -> None:
    """A tab or a line break in a name, which would begin another column or point, is written as a space."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_BREAKS.sub(' ', name)}\n" for name in names)


def _entry(part: str, names: str, shapes: Shapes) -> str:
    """A message of the text format of protocol buffers; its texts are quoted as JSON's."""
    tensors = f"{part}_tensors.tsv"
    fields = [("tensor_name", part), ("tensor_path", tensors), ("metadata_path", f"{names}_metadata.tsv")]
    lines = [f"  {key}: {json.dumps(value)}\n" for key, value in fields]
    lines += [f"  tensor_shape: {size}\n" for size in shapes[tensors]]
    return f"embeddings {{\n{''.join(lines)}}}\n"
