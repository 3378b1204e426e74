"""Runs with their table on disk: equal to runs in memory, on any number of ranks, and after a resume."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graph.errors import InputError
from launch import train
from launch.on_disk import settle_storage
from tests.configs import composed
from tests.nodes import ROOT

DISK = ("placement.storage=disk", "placement.shards=6", "placement.resident=3")
OPTIONS = ("generator=uniform", "generator.num_negatives=8", "optimizer=lazy_adam", "trainer.epochs=3")


def read(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith("speed/")} for line in lines]


@pytest.fixture
def ran(command, tiny_plain, tmp_path):
    def run(name: str, *options: str, given: tuple[str, ...] = OPTIONS) -> list[dict]:
        outcome = command(train, *tiny_plain, *given, *options, f"hydra.run.dir={tmp_path / name}")
        assert outcome.code == 0, outcome.errors
        return read(tmp_path / name)

    return run


def test_with_all_shards_in_memory_it_is_the_run_in_memory_bit_for_bit(ran, tmp_path):
    assert ran("disk", *DISK, "placement.resident=6") == ran("memory")
    # Of the checkpoint that was best.
    test, like = (json.loads((tmp_path / name / "result.json").read_text())["test"] for name in ("disk", "memory"))
    assert test == like


def test_two_ranks_train_what_one_trains_and_a_resume_goes_on_as_if_unbroken(ran, command, tiny_plain, tmp_path, warm):
    one = ran("one", *DISK, "dtype=float64")
    two = ran("two", *DISK, "dtype=float64", "launch.ranks=2")
    for a, b in zip(one, two, strict=True):
        assert a.pop("stage") == b.pop("stage")
        assert a == pytest.approx(b, rel=1e-9)
    ran("broken", *DISK, "dtype=float64", "trainer.epochs=1")
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors
    assert read(tmp_path / "broken") == read(tmp_path / "one")
    # From memory there is no way back into a run whose order of positives is another.
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=4", "placement.storage=memory")
    assert "resume: order is 3_of_6_shards_" in outcome.errors
    outcome = command(train, f"resume={tmp_path / 'broken'}", "trainer.epochs=4", "placement.shards=5")
    assert "resume: order is 3_of_5_shards_" in outcome.errors


def test_in_batch_negatives_are_those_of_all_numbers_of_ranks(ran):
    options = ("generator=in_batch", "trainer.chunk_size=8", "loss=sampled_softmax", "dtype=float64")
    options = (*DISK, *options, "optimizer=lazy_adam", "trainer.epochs=3", "trainer.log_digests=true")
    one, two = ran("one", *options, given=()), ran("two", *options, "launch.ranks=2", given=())
    for a, b in zip(one, two, strict=True):
        assert {key: a.pop(key) for key in list(a) if isinstance(a[key], str)} == {
            key: b.pop(key) for key in list(b) if isinstance(b[key], str)
        }
        assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize(
    "options", [("generator=curriculum",), ("generator=mixture", "generator@generator.parts.hard=kbgan")]
)
def test_samplers_of_parts_that_draw_from_memory_are_allowed(options, tmp_path):
    settle_storage(composed("train", *DISK, "optimizer=lazy_adam", *options), tmp_path)


def test_bytes_of_shards_are_logged(ran, tmp_path):
    ran("run", *DISK, "trainer.log_every=1")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    of_steps = [line for line in lines if "speed/shard_bytes_read" in line]
    assert 0 < of_steps[0]["speed/shard_bytes_read"] < of_steps[-1]["speed/shard_bytes_read"]
    assert of_steps[-1]["speed/shard_bytes_written"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("generator=nscaching",), "generator=nscaching draws entities that are not in memory"),
        (("generator=near_miss",), "generator=near_miss draws entities that are not in memory"),
        (("generator=mixture",), "generator.parts.hard=nscaching draws entities that are not in memory"),
        (
            ("generator=curriculum", "generator@generator.hard=near_miss"),
            "generator.hard=near_miss draws entities that are not in memory",
        ),
        (
            ("generator=kbgan", "pretrain.generator.epochs=2", "generator@pretrain.generator.sampler=degree"),
            "pretrain.generator.sampler=degree draws entities that are not in memory",
        ),
        (("generator=uniform", "loss=one_vs_all"), "loss=one_vs_all compares each positive with all entities"),
        (("generator=uniform", "optimizer=adam"), "optimizer=adam moves all rows in each step"),
        (("generator=uniform", "average=ema"), "average=ema is a second table in memory"),
    ],
)
def test_what_needs_the_whole_table_is_refused_before_the_graph_is_read(options, said, tmp_path):
    config = composed("train", *DISK, "optimizer=lazy_adam", *options)
    with pytest.raises(InputError, match=f"placement.storage=disk: {said}"):
        settle_storage(config, tmp_path)
    config.placement.resident = config.placement.shards
    settle_storage(config, tmp_path)
    assert config.placement.folder == str(tmp_path / "table")


def test_replicated_rows_and_an_encoder_are_refused(tmp_path):
    config = composed("train", "placement.storage=replicated", "generator=uniform", "encoder=compgcn")
    with pytest.raises(InputError, match=r"^placement.storage=replicated: encoder=compgcn makes the rows of each rank"):
        settle_storage(config, tmp_path)
    config.encoder = None
    settle_storage(config, tmp_path)


def test_an_encoder_is_refused_also_if_all_shards_are_resident(tmp_path):
    config = composed("train", *DISK, "optimizer=lazy_adam", "generator=uniform", "encoder=compgcn")
    config.placement.resident = config.placement.shards
    with pytest.raises(InputError, match="encoder=compgcn has a second table"):
        settle_storage(config, tmp_path)


def test_a_flipped_byte_in_a_shard_of_a_checkpoint_is_named_and_nothing_else_is_lost(ran, command, tmp_path):
    unbroken = ran("unbroken", *DISK)
    ran("run", *DISK, "trainer.epochs=1")
    checkpoint = max((tmp_path / "run/checkpoints").glob("step_*"))
    files = sorted(checkpoint.glob("rows_*_of_6.safetensors"))
    assert len(files) == 6
    good = files[3].read_bytes()
    files[3].write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    outcome = command(train, f"resume={tmp_path / 'run'}", "trainer.epochs=3")
    assert outcome.code == 1
    assert outcome.errors.splitlines()[-1].startswith(f"error: {files[3]} is damaged")
    for path, content in before.items():
        assert path.read_bytes().startswith(content), path  # logs may have grown
    files[3].write_bytes(good)
    outcome = command(train, f"resume={tmp_path / 'run'}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors
    assert read(tmp_path / "run") == unbroken


_SMALL_DISK = ["unshare", "--map-root-user", "--mount"]


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run([*_SMALL_DISK, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs leave to mount a disk of some megabytes",
)
def test_a_disk_that_is_full_in_the_middle_is_one_line_and_the_run_goes_on_when_there_is_room(
    ran, environment, tiny_plain, tmp_path
):
    """The table takes 3 MB, and so does each checkpoint; a third one has no room while the second is there."""
    options = [*OPTIONS, *DISK, "discriminator=distmult", "discriminator.dim=2000", "trainer.valid_every=1"]
    unbroken = ran("unbroken", *options, given=())
    disk = tmp_path / "disk"
    disk.mkdir()
    words = [sys.executable, str(ROOT / "launch/train.py"), *tiny_plain, *options]
    train = shlex.join([*words, f"hydra.run.dir={disk}/run", "resume=auto"])
    full = f"mount -t tmpfs -o size=8m tmpfs {disk}; {train}; echo ended with $?; echo said >&2"
    larger = f"mount -o remount,size=100m {disk}; {train}; echo ended with $?; cp -r {disk}/run {tmp_path}/run"
    command = [*_SMALL_DISK, "sh", "-c", f"{full}; {larger}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    codes = [line for line in done.stdout.splitlines() if line.startswith("ended with ")]
    assert codes == ["ended with 1", "ended with 0"], done.stderr
    last = done.stderr.split("\nsaid\n")[0].splitlines()[-1]
    assert re.fullmatch(
        r"error: could not save a checkpoint in \S+: .*No space left on device; the last good one is step_\S+", last
    )
    assert read(tmp_path / "run") == unbroken
