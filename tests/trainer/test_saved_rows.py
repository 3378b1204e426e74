"""Entity rows of a checkpoint, read a block at a time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedding.model import KGEModel
from embedding.site import ModelSite
from graph.errors import InputError
from graph.partition import EntityPlacement
from tests.ranks import run_on_ranks
from tests.worlds import families, model_of, one_rank, site_of
from trainer.checkpoint import Checkpointer, Player
from trainer.runtime import Runtime
from trainer.saved_rows import SavedRows, open_trained

KEY = "discriminator/weight"


def model_on(runtime: Runtime) -> KGEModel:
    return model_of(site_of(families(), runtime), reciprocal=True)


def save_on(rank: int, world_size: int, folder: Path) -> None:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    Checkpointer(folder, runtime, keep=1).save("step_1", {"discriminator": Player(model_on(runtime), None)}, {}, {})


def without_entities(*, seed: int = 9) -> KGEModel:
    nowhere = EntityPlacement.from_order(torch.empty(0, dtype=torch.int64))
    own = site_of(families(), seed=seed)
    site = ModelSite(nowhere, own.num_relations, 0, 1, own.device, own.dtype, own.seed)
    return model_of(site, reciprocal=True)


def test_rows_of_several_ranks_are_in_the_order_of_ids(tmp_path: Path):
    run_on_ranks(3, save_on, tmp_path)
    model, trained = without_entities(), model_on(one_rank())
    rows = open_trained(tmp_path / "step_1", "discriminator", model, families().num_entities)
    expected = trained.entity.gather_all(trained.entity.weight)
    for size in (1, 50, 1000):
        blocks = list(rows.blocks(size))
        assert {len(block) for block in blocks[:-1]} <= {size}
        assert torch.equal(torch.cat(blocks), expected)
    # The rest of the model is loaded; it had other values.
    assert torch.equal(model.scorer.relation, trained.scorer.relation)
    assert not torch.equal(model.scorer.relation, without_entities().scorer.relation)


def changed(tensors: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    rows, entity = tensors[KEY], tensors["entity"].clone()
    entity[0] = entity[1]
    return {
        "nan": {**tensors, KEY: torch.where(torch.arange(len(rows))[:, None] == 100, float("nan"), rows)},
        "narrow": {**tensors, KEY: rows[:, 1:]},
        "short": {**tensors, KEY: rows[1:]},
        "whole numbers": {**tensors, KEY: rows.long()},
        "none": {"entity": tensors["entity"]},
        "twice": {**tensors, "entity": entity},
    }[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "'discriminator/weight' must hold finite numbers"),
        ("narrow", r"'discriminator/weight' has shape \[128, 3\], this run's has \[128, 4\]"),
        ("short", r"'discriminator/weight' has shape \[127, 4\], this run's has \[128, 4\]"),
        ("whole numbers", "'discriminator/weight' is of torch.int64"),
        ("none", "holds no 'discriminator/weight'"),
        ("twice", "'entity' must name each entity once"),
    ],
)
def test_wrong_rows_are_refused(how: str, said: str, tmp_path: Path):
    save_on(0, 1, tmp_path)
    file = tmp_path / "step_1" / "rows_0_of_1.safetensors"
    save_file({key: value.contiguous() for key, value in changed(load_file(file), how).items()}, file)
    with pytest.raises(InputError, match=said):
        list(open_trained(tmp_path / "step_1", "discriminator", without_entities(), 128).blocks(64))


def test_a_block_is_all_that_is_in_memory(tmp_path: Path):
    count, width, size = 100_000, 100, 2_000  # 40 MB in blocks of 800 kB
    save_file({"entity": torch.randperm(count), KEY: torch.zeros((count, width))}, tmp_path / "rows.safetensors")

    def own_mb() -> float:
        """The memory of this process without the pages of files, which the system may drop."""
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1e3

    before, most = own_mb(), 0.0
    for _ in SavedRows(tmp_path, ["rows.safetensors"], KEY, torch.empty((0, width)), count).blocks(size):
        most = max(most, own_mb())
    assert 0 < most < before + 15
