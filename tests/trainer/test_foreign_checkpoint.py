"""Checkpoints of another make, each with right checksums: what is wrong in them is refused, with file and field."""

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import adam, families, model_of, one_rank, site_of
from trainer.checkpoint import Checkpointer, Player
from trainer.checkpoint_files import digest_of, digest_of_file
from trainer.manifest import load_manifest
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.stage import Cursor

MANIFEST = {
    "cursor": Cursor(stage=1, step=7, finished={"pretrain_generator": 7}).as_dict(),
    "tracker_run_id": None,
    "seed": 3,
    "trainer.batch_size": 8,
    "trainer.chunk_size": 1,
    "trainer.sides": "one",
    "trainer.subsampling": False,
    "trainer.metric": "mrr",
    "trainer.valid_sample": None,
    "generator": "generator.kbgan.KBGANSampler",
    "stages": ["pretrain_generator", "adversarial"],
    "graph": "0123456789abcdef",
}


def players_of(runtime: Runtime) -> dict[str, Player]:
    return {"discriminator": Player(model_of(site_of(families(), runtime), dim=4), None)}


def save_on(rank: int, world_size: int, folder: Path) -> None:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    checkpointer = Checkpointer(folder, runtime, keep=1)
    checkpointer.point("latest", checkpointer.save("step_1", players_of(runtime), {}, MANIFEST))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_on(0, 1, tmp_path)
    return tmp_path / "step_1"


def sign(checkpoint: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Gives changed files, and a changed manifest, the checksums that they need."""
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("digest", None)
    manifest["files"] = {file.name: digest_of_file(file) for file in checkpoint.glob("*.safetensors")}
    change(manifest)
    path.write_text(json.dumps({"digest": digest_of(manifest), **manifest}))


def put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Changes a field, `cursor.step` or `seed`."""
    outer, _, inner = key.partition(".") if key.startswith(("cursor.", "files.")) else (key, "", "")
    return lambda manifest: manifest[outer].update({inner: value}) if inner else manifest.update({outer: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((lambda manifest, key=key: manifest.pop(key), f"has no field {key}") for key in ("format", "files", "graph")),
        (lambda manifest: manifest["cursor"].pop("stale"), "has no field cursor.stale"),
        (put("format", 3), "format must be 2, which this version reads, got 3"),
        (put("format", True), "format must be 2"),
        (put("files", []), "files must be the SHA-256 of each file, got []"),
        (put("files", {}), "files must name dense.safetensors and rows_K_of_W"),
        (put("files.../x.safetensors", "0" * 64), "files must give the SHA-256"),
        (put("files.rows_1_of_3.safetensors", "0" * 64), "of each of W ranks"),
        (put("files.dense.safetensors", 7), "files must give the SHA-256"),
        (put("cursor", []), "cursor must be where the run stands, by name, got []"),
        (put("cursor.stage_step", -1), "cursor.stage_step must be a whole number of at least 0, got -1"),
        (put("cursor.stage_step", 8), "cursor.stage_step must not be above cursor.step, 7, got 8"),
        (put("cursor.step", 1.5), "cursor.step must be a whole number of at least 0, got 1.5"),
        (put("cursor.step", True), "cursor.step must be a whole number of at least 0, got True"),
        (put("cursor.step", 1 << 63), "cursor.step must be a whole number"),
        (put("cursor.stage", 3), "cursor.stage must be the number of one of 2 stages"),
        (put("cursor.best_value", math.nan), "cursor.best_value must be a number from -1 to 1, got nan"),
        (put("cursor.best_checkpoint", "../../x"), "cursor.best_checkpoint must be the name of a checkpoint or null"),
        (put("cursor.finished", {}), "cursor.finished must name the stages that are done"),
        (put("cursor.finished", {"pretrain_generator": "7"}), "cursor.finished must be steps by stage"),
        (put("ranking", {"both": {"mrr": 0.5}}), "ranking must be the metrics of a ranking by side, or null, got"),
        (put("cursor.more", 1), "'cursor.more' is no field of this version's checkpoints"),
        (put("stages", ["../x"]), "stages must be names of stages, got ['../x']"),
        (put("graph", 3), "graph must be 16 hex digits, got 3"),
        (put("trainer.sides", ["one"]), "trainer.sides must be one or both, got ['one']"),
        (
            put("trainer.metric", "mean_rank"),
            "must be one of mrr, hits@1, hits@3, hits@10, got 'mean_rank'",
        ),
        (put("trainer.valid_sample", 0), "trainer.valid_sample must be a number of triples or null, got 0"),
        (lambda manifest: manifest.update({"format": 1}) or manifest.pop("trainer.metric"), "format must be 2, which"),
        (put("tracker_run_id", "a\nb"), r"tracker_run_id must be an id or null, got 'a\nb'"),
        (put("generator", "x" * 5000), "(5002 characters)"),
        (put("average", "ema"), "average must be the name of an average and its numbers, or null, got 'ema'"),
        (put("average", {"updates": 1}), "average must be the name of an average and its numbers, or null"),
        (put("average", {"name": "ema", "updates": "1"}), "average must be the name of an average and its numbers"),
    ],
)
def test_a_wrong_manifest_is_refused_with_file_and_field(
    change: Callable[[dict[str, Any]], object], said: str, checkpoint: Path
):
    load_manifest(checkpoint, "graph")
    sign(checkpoint, change)
    with pytest.raises(InputError) as error:
        load_manifest(checkpoint, "graph")
    assert str(checkpoint / "manifest.json") in str(error.value)
    assert said in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("content", ["[" * 100_000, " " * (5 << 20), '{"digest": 1' + "0" * 5000 + "}", b"\xff"])
def test_a_manifest_that_is_a_bomb_is_refused(content: str | bytes, checkpoint: Path):
    (checkpoint / "manifest.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        load_manifest(checkpoint)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../step_1", "/etc", ".", "..", "", "a/b", 7, None, ["step_1"]])
def test_a_pointer_that_leaves_its_folder_is_refused(name: object, checkpoint: Path):
    assert find_checkpoint(checkpoint.parent, "latest", "resume") == checkpoint
    (checkpoint.parent / "latest.json").write_text(json.dumps({"checkpoint": name}))
    with pytest.raises(
        InputError, match=r"latest\.json is damaged: it should name a checkpoint of its folder"
    ) as error:
        find_checkpoint(checkpoint.parent, "latest", "resume")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("linked", ["latest.json", "step_1", "step_1/dense.safetensors"])
def test_a_link_that_leaves_its_folder_is_refused(linked: str, checkpoint: Path, tmp_path_factory: Any):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    (checkpoint.parent / linked).rename(elsewhere)
    (checkpoint.parent / linked).symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"is a link .* which is not followed"):
        Checkpointer(checkpoint.parent, one_rank(), keep=1).read_manifest(
            find_checkpoint(checkpoint.parent, "latest", "resume")
        )


def changed(checkpoint: Path, file: str, key: str, change: Callable[[Tensor], Tensor | None]) -> None:
    tensors = load_file(checkpoint / file)
    value = change(tensors.pop(key))
    save_file(tensors | ({} if value is None else {key: value}), checkpoint / file)


def load(checkpoint: Path) -> None:
    checkpointer = Checkpointer(checkpoint.parent, one_rank(), keep=1)
    checkpointer.read_manifest(checkpoint)
    checkpointer.load(checkpoint, players_of(one_rank()))


def spoilt(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(value, dtype=tensor.dtype))


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("entity", lambda entity: entity - 1, "'entity' must hold ids from 0 to 127, got -1"),
        ("entity", lambda entity: entity + 1, "'entity' must hold ids from 0 to 127, got 128"),
        ("entity", lambda entity: entity // 2, "'entity' must name each entity once"),
        ("entity", lambda entity: entity.double(), "'entity' must be a list of I64 ids, got F64"),
        ("entity", lambda entity: entity[:, None], "'entity' must be a list of I64 ids, got I64 of shape [128, 1]"),
        ("entity", lambda _: None, "holds no 'entity'"),
        ("discriminator/weight", spoilt(math.nan), "'discriminator/weight' must hold finite numbers"),
        ("discriminator/weight", spoilt(-math.inf), "'discriminator/weight' must hold finite numbers"),
        ("discriminator/weight", lambda weight: weight.long(), "'discriminator/weight' is of torch.int64"),
        (
            "discriminator/weight",
            lambda weight: weight.to(torch.complex64),
            "no checkpoint holds",
        ),
        ("discriminator/weight", lambda _: None, "holds no 'discriminator/weight'"),
    ],
)
def test_rows_with_right_checksums_are_looked_at(
    key: str, change: Callable[[Tensor], Tensor | None], said: str, checkpoint: Path
):
    load(checkpoint)
    changed(checkpoint, "rows_0_of_1.safetensors", key, change)
    sign(checkpoint)
    with pytest.raises(InputError, match=re.escape(said)):
        load(checkpoint)


def test_relations_with_right_checksums_are_looked_at(checkpoint: Path):
    changed(checkpoint, "dense.safetensors", "discriminator/dense/relation", spoilt(math.nan))
    sign(checkpoint)
    with pytest.raises(InputError, match="'discriminator/dense/relation' must hold finite numbers"):
        load(checkpoint)


def test_a_negative_count_of_steps_is_refused(tmp_path: Path):
    player = players_of(one_rank())["discriminator"]
    player.optimizer = adam(player.model)
    player.optimizer.steps.fill_(-2)
    checkpointer = Checkpointer(tmp_path, one_rank(), keep=1)
    path = checkpointer.save("step_1", {"discriminator": player}, {}, MANIFEST)
    with pytest.raises(InputError, match="'discriminator/optimizer/steps' must be at least 0, got -2"):
        checkpointer.load(path, {"discriminator": player})


@pytest.mark.parametrize(
    "header",
    [
        {"entity": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}},
        {"entity": {"dtype": "F6_E2M3", "shape": [8], "data_offsets": [0, 6]}},
        {"entity": {"dtype": "I64", "shape": [0, 1 << 63], "data_offsets": [0, 0]}},
        {"entity": {"dtype": "I64", "shape": [-1], "data_offsets": [0, 8]}},
        {"entity": {"dtype": "X", "shape": [1], "data_offsets": [0, 8]}},
        [],
    ],
)
def test_odd_headers_are_refused(header: Any, checkpoint: Path):
    text = json.dumps(header).encode()
    size = max([part["data_offsets"][1] for part in header.values()]) if header else 0
    (checkpoint / "rows_0_of_1.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    sign(checkpoint)
    with pytest.raises(InputError, match=r"rows_0_of_1\.safetensors is damaged"):
        load(checkpoint)


def load_on(rank: int, world_size: int, folder: Path) -> str:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    checkpointer = Checkpointer(folder, runtime, keep=1)
    try:
        checkpointer.load(folder / "step_1", players_of(runtime))
    except InputError as error:
        return str(error)
    return "loaded"


@pytest.mark.slow
def test_what_one_rank_finds_in_its_rows_ends_all(checkpoint: Path):
    changed(checkpoint, "rows_0_of_1.safetensors", "discriminator/weight", spoilt(math.nan))
    sign(checkpoint)
    said = run_on_ranks(2, load_on, checkpoint.parent)
    assert said[0] == said[1]
    assert "must hold finite numbers" in said[0]
