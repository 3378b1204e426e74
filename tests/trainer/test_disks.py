"""Run folders on disks that ranks do not share: here each rank, or some of them, has a folder of its own."""

from pathlib import Path

import pytest
import torch

import trainer.disks
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import families, model_of, site_of
from trainer.checkpoint import Checkpointer
from trainer.disks import Disks, Parcel
from trainer.player import Player
from trainer.run_copies import bring_run, newest
from trainer.runtime import Runtime

SIZE = 1000


def runtime_of(rank: int, world_size: int) -> Runtime:
    return Runtime(rank, world_size, torch.device("cpu"))


def place(folder: Path, rank: int, disks: list[str]) -> Path:
    """The run folder as a rank sees it."""
    return folder / disks[rank] / "run"


def error_of(action) -> str | None:
    try:
        action()
    except InputError as error:
        return str(error)
    return None


def save(rank: int, world_size: int, folder: Path, names: list[str]) -> list[int]:
    runtime, run = runtime_of(rank, world_size), place(folder, rank, names)
    disks = Disks.of(run, runtime)
    checkpointer = Checkpointer(run / "checkpoints", runtime, keep=1, disks=disks)
    players = {"discriminator": Player(model_of(site_of(families(), runtime), reciprocal=True), None)}
    for step in (1, 2):
        path = checkpointer.save(f"step_{step}", players, {}, {"tracker_run_id": str(rank)})
        checkpointer.point("latest", path)
    checkpointer.read_manifest(path)
    checkpointer.load(path, players)
    return disks.owner


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_disk_has_the_whole_checkpoint(tmp_path: Path):
    assert run_on_ranks(3, save, tmp_path, ["a", "b", "a"]) == [[0, 1, 0]] * 3
    one, other = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert {f"run/checkpoints/step_2/rows_{rank}_of_3.safetensors" for rank in range(3)} < set(one)
    assert "run/checkpoints/step_1/manifest.json" not in one
    assert one == other


def bring(rank: int, world_size: int, folder: Path, size: int, target: str) -> str | None:
    trainer.disks._BLOCK_BYTES = SIZE
    runtime = runtime_of(rank, world_size)
    disks = Disks.of(place(folder, rank, ["a", "b"]), runtime)
    source = place(folder, 1, ["a", "b"]) / "source"
    if rank == 1 and size >= 0:
        source.write_bytes(bytes(number % 251 for number in range(size)))
    parcel = Parcel(source, 1, place(folder, rank, ["a", "b"]) / target)
    return error_of(lambda: disks.bring([parcel]))


@pytest.mark.parametrize("size", [0, 1, SIZE, 3 * SIZE + 1])
def test_a_file_of_any_size_arrives_as_it_is(size: int, tmp_path: Path):
    assert run_on_ranks(2, bring, tmp_path, size, "deep/copy") == [None, None]
    assert (tmp_path / "a/run/deep/copy").read_bytes() == (tmp_path / "b/run/source").read_bytes()
    assert not list((tmp_path / "a").rglob("*.partial"))


@pytest.mark.parametrize(("size", "target", "said"), [(-1, "copy", "source"), (SIZE, "n" * 300, "n" * 300)])
def test_all_ranks_learn_that_a_file_can_t_be_read_or_written(size: int, target: str, said: str, tmp_path: Path):
    first, second = run_on_ranks(2, bring, tmp_path, size, target)
    assert first == second
    assert f"{said} can't be brought to machines that do not see it: " in first


def refused(rank: int, world_size: int, folder: Path) -> str | None:
    (folder / "file").touch()
    return error_of(lambda: Disks.of(folder / ("file" if rank else "own") / "run", runtime_of(rank, world_size)))


def test_a_run_folder_that_can_t_be_written_is_named(tmp_path: Path):
    said = f"hydra.run.dir: rank 1 can't write into {tmp_path}/file/run: Not a directory"
    assert run_on_ranks(2, refused, tmp_path) == [said, said]


def save_alone(rank: int, world_size: int, run: Path, step: int) -> None:
    runtime = runtime_of(rank, world_size)
    players = {"discriminator": Player(model_of(site_of(families(), runtime), reciprocal=True), None)}
    checkpointer = Checkpointer(run / "checkpoints", runtime, keep=5)
    checkpointer.point("latest", checkpointer.save(f"step_{step}", players, {}, {}))
    checkpointer.point("best", run / "checkpoints" / "step_1")
    (run / "metrics.jsonl").write_text(f"{step}\n")


def catch_up(rank: int, world_size: int, folder: Path) -> int | None:
    runtime, run = runtime_of(rank, world_size), place(folder, rank, ["a", "b", "c"])
    disks, holder = Disks.of(run, runtime), newest(run, runtime)
    if holder is not None:
        bring_run(run, disks, holder)
    return holder


def test_disks_that_were_away_or_are_new_get_the_newest_run(tmp_path: Path):
    """Disk a has step 1, which is damaged, and a pointer that is gone; b has steps 1 and 2; c has nothing."""
    for name, steps in (("a", [1]), ("b", [1, 2])):
        for step in steps:
            run_on_ranks(1, save_alone, tmp_path / name / "run", step)
    (tmp_path / "a/run/checkpoints/step_1/dense.safetensors").unlink()
    (tmp_path / "a/run/checkpoints/gone.json").write_text('{"checkpoint": "step_1"}')
    assert run_on_ranks(3, catch_up, tmp_path) == [1, 1, 1]
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == files_of(tmp_path / "c")


def test_a_run_that_nobody_has_begun_has_no_newest_checkpoint(tmp_path: Path):
    assert run_on_ranks(3, catch_up, tmp_path) == [None] * 3
