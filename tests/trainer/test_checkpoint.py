import errno
import json
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from discriminator.loss.loss import Scores
from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import RowwiseAdagrad
from graph.errors import InputError
from graph.partition import random_placement
from tests.ranks import run_on_ranks
from tests.worlds import adam, batch_of, distmult, families, graph_of, lazy_adam, model_of, one_rank, player_of, site_of
from trainer.checkpoint import Checkpointer, Player
from trainer.manifest import load_manifest
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.stage import Cursor

STATE = {"baseline": torch.tensor([1.5, -2.0], dtype=torch.float64)}
MANIFEST = {"cursor": Cursor(step=7).as_dict(), "seed": 3}


def adagrad(model: KGEModel) -> ModelOptimizer:
    return RowwiseAdagrad(model, lr=0.1, relation_lr=None, eps=1e-10, clip_norm=None)


OPTIMIZERS = {"adam": adam, "lazy adam": lazy_adam, "adagrad": adagrad}


def players_of(
    runtime: Runtime | None = None,
    *,
    seed: int = 3,
    dim: int = 4,
    optimizer: Callable[[KGEModel], ModelOptimizer] = adam,
) -> dict[str, Player]:
    """Two models; with another seed they have other values and their entities other places."""
    site = site_of(families(), runtime, seed=seed)
    models = {
        "discriminator": model_of(site, dim=dim),
        "generator": model_of(site, name="generator", dim=2, scoring=distmult),
    }
    return {name: Player(model, optimizer(model)) for name, model in models.items()}


def train(players: dict[str, Player], runtime: Runtime | None = None) -> None:
    runtime = runtime or one_rank()
    for player in players.values():
        assert player.optimizer is not None
        teacher = player_of(player.model)
        for step in range(3):
            batch = runtime.share(batch_of(families().train[step * 8 :][:8], heads=4))
            positive, negative = player.model.score(batch, batch.integers("test", 2, 128))
            batch.share_of_mean(teacher.loss(Scores(positive, negative))).backward()
            player.optimizer.step()


def content(players: dict[str, Player]) -> dict[str, Tensor]:
    """Everything of the players by entity id. Collective."""
    found: dict[str, Tensor] = {}
    for name, player in players.items():
        table = player.model.entity
        found[f"{name} weight"] = table.gather_all(table.weight.detach())
        found |= {f"{name} {key}": value.clone() for key, value in player.model.scorer.state_dict().items()}
        if player.optimizer is not None:
            state = player.optimizer.row_state
            found |= {f"{name} rows {key}": table.gather_all(value) for key, value in state.items()}
            found |= {f"{name} dense {key}": value.clone() for key, value in player.optimizer.dense_state().items()}
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].equal(value), key


def checkpointer_of(folder: Path, runtime: Runtime | None = None, *, keep: int = 1) -> Checkpointer:
    return Checkpointer(folder, runtime or one_rank(), keep=keep)


def saved(folder: Path, name: str = "step_1", keep: int = 1) -> Path:
    """A good checkpoint that `latest` points to."""
    checkpointer = checkpointer_of(folder, keep=keep)
    path = checkpointer.save(name, players_of(), STATE, MANIFEST)
    checkpointer.point("latest", path)
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_everything_comes_back(optimizer: str, tmp_path: Path):
    players = players_of(optimizer=OPTIMIZERS[optimizer])
    train(players)
    path = checkpointer_of(tmp_path).save("step_1", players, STATE, MANIFEST)
    # Another seed: other values, and every entity in another row.
    others = players_of(seed=4, optimizer=OPTIMIZERS[optimizer])
    assert checkpointer_of(tmp_path).read_manifest(path) | MANIFEST == checkpointer_of(tmp_path).read_manifest(path)
    state = checkpointer_of(tmp_path).load(path, others)
    assert_same(content(others), content(players))
    assert_same(state, STATE)
    # The optimisers too go on as one.
    train(players)
    train(others)
    assert_same(content(others), content(players))


def test_a_model_is_loaded_without_its_optimizer(tmp_path: Path):
    players = players_of()
    train(players)
    path = checkpointer_of(tmp_path).save("step_1", players, {}, {})
    other = players_of(seed=4)["generator"].model
    checkpointer_of(tmp_path).load(path, {"generator": Player(other, None)})
    assert_same(
        content({"generator": Player(other, None)}), content({"generator": Player(players["generator"].model, None)})
    )


KEYS = 11  # no number of ranks above 1 divides it


def keyed_of(runtime: Runtime | None = None, *, keys: int = KEYS, width: int = 3) -> dict[str, KeyedRows]:
    """Rows of zeros."""
    return {"caches": KeyedRows(site_of(families(), runtime), keys, width, name="caches")}


def fill(keyed: dict[str, KeyedRows]) -> None:
    for rows in keyed.values():
        rows.row.copy_(rows.key[:, None] * 10 + torch.arange(rows.row.shape[1]))


FILLED = torch.arange(KEYS)[:, None] * 10 + torch.arange(3)


def save_on_ranks(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    players = players_of(runtime)
    train(players, runtime)
    checkpointer = checkpointer_of(folder, runtime)
    keyed = keyed_of(runtime)
    fill(keyed)
    checkpointer.point("latest", checkpointer.save("step_1", players, STATE, MANIFEST, keyed))
    return content(players)


def load_on_ranks(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    players = players_of(runtime, seed=4)
    path = find_checkpoint(folder, "latest", "resume")
    checkpointer = checkpointer_of(folder, runtime)
    checkpointer.read_manifest(path)
    keyed = keyed_of(runtime)
    checkpointer.load(path, players, keyed)
    assert keyed["caches"].fetch(torch.arange(KEYS)).equal(FILLED)
    return content(players)


@pytest.mark.slow
def test_what_three_ranks_save_two_or_one_load(tmp_path: Path):
    expected = run_on_ranks(3, save_on_ranks, tmp_path)[0]
    files = sorted((tmp_path / "step_1").glob("rows_*_of_3.safetensors"))
    assert [load_file(file)["keyed/caches"].shape[0] for file in files] == [4, 4, 3]  # nobody wrote the whole
    assert_same(load_on_ranks(0, 1, tmp_path), expected)
    for found in run_on_ranks(2, load_on_ranks, tmp_path):
        assert_same(found, expected)


@pytest.mark.parametrize("file", ["manifest.json", "dense.safetensors", "rows_0_of_1.safetensors"])
def test_a_flipped_byte_is_found(file: str, tmp_path: Path):
    path = saved(tmp_path)
    good = (path / file).read_bytes()
    for place in (0, 9, len(good) // 3, len(good) // 2, len(good) - 1):
        damaged = bytearray(good)
        damaged[place] ^= 0x01
        (path / file).write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{re.escape(str(path / file))} is damaged"):
            checkpointer_of(tmp_path).read_manifest(path)


@pytest.mark.parametrize("content", ["", "[]", "3", '{"digest": 1', "{}"])
def test_a_manifest_that_is_none_is_found(content: str, tmp_path: Path):
    path = saved(tmp_path)
    (path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json is damaged"):
        load_manifest(path)


@pytest.mark.parametrize("file", ["dense.safetensors", "rows_0_of_1.safetensors"])
def test_a_missing_file_is_named(file: str, tmp_path: Path):
    path = saved(tmp_path)
    (path / file).unlink()
    with pytest.raises(InputError, match=f"{re.escape(str(path))} is damaged: {file} is missing"):
        checkpointer_of(tmp_path).read_manifest(path)


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))} is not a checkpoint: it has no manifest.json"):
        load_manifest(tmp_path)


def test_a_checkpoint_is_found_by_itself_by_its_run_or_by_their_folder(tmp_path: Path):
    path = saved(tmp_path / "checkpoints")
    for where in (path, tmp_path, tmp_path / "checkpoints"):
        assert find_checkpoint(where, "latest", "resume") == path
    with pytest.raises(InputError, match=f"resume: no checkpoint at {re.escape(str(tmp_path / 'typo'))}: expected"):
        find_checkpoint(tmp_path / "typo", "latest", "resume")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checkp'])
def test_a_damaged_pointer_is_named(content: str, tmp_path: Path):
    saved(tmp_path)
    (tmp_path / "latest.json").write_text(content)
    with pytest.raises(InputError, match=r"latest\.json is damaged"):
        find_checkpoint(tmp_path, "latest", "resume")


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("tensor_file.os.fsync", FULL),
        ("checkpoint_files.os.fsync", FULL),
        ("checkpoint_files.os.replace", FULL),
        ("checkpoint.sync_folder", FULL),
    ],
)
def test_a_failed_save_loses_nothing(what: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path)
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"trainer.{what}", failing(error))
        with pytest.raises(InputError) as failure:
            checkpointer_of(tmp_path).save("step_2", players_of(seed=4), STATE, MANIFEST)
    message = str(failure.value)
    assert message.startswith(f"could not save a checkpoint in {tmp_path}: ")
    assert "No space left on device" in message
    assert message.endswith("; the last good one is step_1")
    assert "\n" not in message
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before
    assert find_checkpoint(tmp_path, "latest", "resume") == path
    checkpointer_of(tmp_path).read_manifest(path)
    # With room again the next save works, and clears up.
    saved(tmp_path, "step_3")
    assert not list(tmp_path.glob("*.tmp"))


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_the_kernel_refuses_is_one_line(tmp_path: Path):
    path = saved(tmp_path)
    with files_no_larger_than(6000), pytest.raises(InputError) as failure:
        checkpointer_of(tmp_path).save("step_2", players_of(), STATE, MANIFEST)
    assert str(failure.value).startswith(f"could not save a checkpoint in {tmp_path}: ")
    assert "\n" not in str(failure.value)
    assert find_checkpoint(tmp_path, "latest", "resume") == path
    checkpointer_of(tmp_path).read_manifest(path)


def test_a_pointer_that_cannot_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path)
    checkpointer = checkpointer_of(tmp_path)
    second = checkpointer.save("step_2", players_of(), STATE, MANIFEST)
    with monkeypatch.context() as patch:
        patch.setattr("trainer.checkpoint_files.os.fsync", failing(FULL))
        with pytest.raises(InputError, match="No space left on device; the last good one is step_1"):
            checkpointer.point("latest", second)
    assert find_checkpoint(tmp_path, "latest", "resume") == path
    checkpointer.read_manifest(path)


def test_the_same_name_again_replaces(tmp_path: Path):
    path = saved(tmp_path)
    players = players_of(seed=4)
    checkpointer_of(tmp_path).save("step_1", players, STATE, MANIFEST | {"seed": 4})
    assert checkpointer_of(tmp_path).read_manifest(path)["seed"] == 4
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["latest.json", "step_1"]


def test_old_checkpoints_go_but_never_one_that_is_pointed_to(tmp_path: Path):
    checkpointer = checkpointer_of(tmp_path, keep=2)
    for number in range(1, 7):
        path = checkpointer.save(f"step_{number}", players_of(), {}, {})
        if number == 2:
            checkpointer.point("best_adversarial", path)
        checkpointer.point("latest", path)
        names = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
        newest = {f"step_{kept}" for kept in (number - 1, number) if kept > 0}
        assert names == newest | ({"step_2"} if number >= 2 else set())
    with pytest.raises(InputError, match=r"trainer.keep_checkpoints must be at least 1, got 0"):
        checkpointer_of(tmp_path, keep=0)


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path: Path):
    path = saved(tmp_path)
    leftover = tmp_path / "step_2.tmp"
    leftover.mkdir()
    (leftover / "rows_0_of_1.safetensors").write_bytes(b"half")
    assert find_checkpoint(tmp_path, "latest", "resume") == path
    saved(tmp_path, "step_3")
    assert not leftover.exists()


def test_another_dimension_is_named(tmp_path: Path):
    path = saved(tmp_path)
    with pytest.raises(InputError) as failure:
        checkpointer_of(tmp_path).load(path, players_of(dim=5))
    assert "'discriminator/weight' has shape [128, 4], this run's has [128, 5]" in str(failure.value)
    assert "it was made with another model, dimension or graph" in str(failure.value)


@pytest.mark.parametrize(("before", "after"), [(adam, adagrad), (adagrad, adam), (adagrad, lazy_adam)])
def test_another_optimizer_is_named(
    before: Callable[[KGEModel], ModelOptimizer], after: Callable[[KGEModel], ModelOptimizer], tmp_path: Path
):
    path = checkpointer_of(tmp_path).save("step_1", players_of(optimizer=before), {}, {})
    with pytest.raises(
        InputError, match=r"holds no 'discriminator/optimizer/.*it was made with another model or optimizer"
    ):
        checkpointer_of(tmp_path).load(path, players_of(optimizer=after))


def test_a_missing_player_is_named(tmp_path: Path):
    players = players_of()
    path = checkpointer_of(tmp_path).save("step_1", {"generator": players["generator"]}, {}, {})
    with pytest.raises(InputError, match="holds no 'discriminator/weight'"):
        checkpointer_of(tmp_path).load(path, {"discriminator": players["discriminator"]})


@pytest.mark.parametrize(
    ("keyed", "message"),
    [
        ({"lists": keyed_of()["caches"]}, "holds no 'keyed/lists': it was made with another generator"),
        (keyed_of(width=4), "'keyed/caches' has rows of 3 numbers, this run's have 4: it was made with other options"),
        (keyed_of(keys=12), "'keyed/caches' does not hold each of this run's 12 keys once"),
        (keyed_of(keys=10), "'keyed/caches' does not hold each of this run's 10 keys once"),
    ],
)
def test_other_keyed_rows_are_named(keyed: dict[str, KeyedRows], message: str, tmp_path: Path):
    path = checkpointer_of(tmp_path).save("step_1", {}, {}, {}, keyed_of())
    with pytest.raises(InputError, match=re.escape(message)):
        checkpointer_of(tmp_path).load(path, {}, keyed)


@pytest.mark.parametrize("entities", [100, 150])
def test_another_number_of_entities_is_named(entities: int, tmp_path: Path):
    path = saved(tmp_path)
    graph = graph_of([(0, 0, 1)], num_entities=entities, num_relations=20)
    model = model_of(replace(site_of(graph), placement=random_placement(graph, 3)))
    with pytest.raises(
        InputError, match=f"holds 128 entities, this run has {entities}: it was made with another graph"
    ):
        checkpointer_of(tmp_path).load(path, {"discriminator": Player(model, None)})


def test_files_hold_nothing_that_runs(tmp_path: Path):
    path = saved(tmp_path)
    assert {file.name for file in path.iterdir()} == {"manifest.json", "dense.safetensors", "rows_0_of_1.safetensors"}
    assert json.loads((path / "manifest.json").read_text())["seed"] == 3


def test_no_room_unpickles_from_disk():
    root = Path(__file__).parents[2]
    forbidden = re.compile(
        r"import (c?pickle|dill|joblib|shelve|marshal)\b|pickle\.loads?\(|torch\.(load|save)\(|allow_pickle\s*=\s*True"
        r"|weights_only\s*=\s*False|yaml\.(unsafe_load|load)\("
    )
    files = [
        file
        for room in ("graph", "embedding", "generator", "discriminator", "trainer", "launch")
        for file in (root / room).rglob("*.py")
    ]
    assert len(files) > 30
    for file in files:
        assert not forbidden.search(file.read_text()), file
