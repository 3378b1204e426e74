"""Reads what a finished run of wandb left in its folder, with wandb's own messages."""

import json
import time
from pathlib import Path
from typing import Any


def records(file: Path) -> list[Any]:
    """The records of a .wandb file: LevelDB's log framing around protobuf."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, found, piece = file.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:  # a block's last bytes hold no header
            place += left
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        piece += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(piece)
            found.append(record)
            piece = b""
    return found


def history(file: Path) -> list[dict[str, Any]]:
    """The rows of a finished run, whose service writes the last records after `finish` has returned."""
    deadline = time.monotonic() + 20
    while not any(record.HasField("exit") for record in records(file)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    items = [record.history.item for record in records(file) if record.HasField("history")]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in items]


def tables(folder: Path, name: str) -> list[tuple[int, list[dict[str, Any]]]]:
    """The tables that were logged by this name, as rows, each with its step.

    Args:
        folder: wandb's folder of the run, offline-run-...
    """
    (file,) = folder.glob("*.wandb")
    found = []
    for row in history(file):
        if f"{name}/path" in row:
            content = json.loads((folder / "files" / row[f"{name}/path"]).read_text())
            rows = [dict(zip(content["columns"], values, strict=True)) for values in content["data"]]
            found.append((row["trainer/step"], rows))
    return found
