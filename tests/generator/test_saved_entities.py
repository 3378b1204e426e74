"""Entities in a sampler's part of a checkpoint, which may come from someone else: only those of the graph are taken."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from generator.refreshed import RefreshedSampler
from graph.errors import InputError
from launch.parts import build_sampler
from tests.configs import composed
from tests.worlds import context_of, families, model_of, site_of
from trainer.keyed_shards import load_keyed

ENTITIES = 128


def sampler_of(name: str):
    graph = families()
    config = composed("train", f"generator={name}").generator
    for key in ("list_size", "clusters"):
        if key in config:
            config[key] = 8
    return build_sampler(config, context_of(graph, player=model_of(site_of(graph), dim=4)), "generator")


@pytest.mark.parametrize(("name", "key"), [("nscaching", "caches"), ("near_miss", "windows")])
@pytest.mark.parametrize("wrong", [-1, ENTITIES])
def test_rows_of_entities_that_there_are_not_are_refused(name: str, key: str, wrong: int, tmp_path: Path):
    rows: KeyedRows = sampler_of(name).keyed_rows()[key]
    saved = torch.full_like(rows.row, ENTITIES - 1)
    files = {f"keyed/{key}": saved, f"keyed/{key}/first_place": torch.tensor([0])}
    save_file(files, tmp_path / "rows.safetensors")
    load_keyed(tmp_path, ["rows.safetensors"], {key: rows})
    assert rows.row.equal(saved)
    saved[-1, -1] = wrong
    save_file(files, tmp_path / "rows.safetensors")
    with pytest.raises(InputError, match=f"rows.safetensors: 'keyed/{key}' must hold ids from 0 to 127, got {wrong}$"):
        load_keyed(tmp_path, ["rows.safetensors"], {key: rows})
    save_file(files | {f"keyed/{key}": saved.float()}, tmp_path / "rows.safetensors")
    with pytest.raises(InputError, match=f"'keyed/{key}' must be of type I32, got F32$"):
        load_keyed(tmp_path, ["rows.safetensors"], {key: rows})
    in_other_order = {f"keyed/{key}": rows.row, f"keyed/{key}/first": torch.tensor([0])}
    save_file(in_other_order, tmp_path / "rows.safetensors")
    with pytest.raises(InputError, match=f"holds 'keyed/{key}' in the order of an earlier version of this project"):
        load_keyed(tmp_path, ["rows.safetensors"], {key: rows})


def changed(value: Tensor, entity: int) -> Tensor:
    value = value.clone()
    value.view(-1)[-1] = entity
    return value


@pytest.mark.parametrize(("name", "key"), [("nearest", "closest"), ("eans", "entity_at")])
def test_lists_of_entities_that_there_are_not_are_refused(name: str, key: str):
    sampler = sampler_of(name)
    assert isinstance(sampler, RefreshedSampler)
    good = sampler.made()[key]
    sampler.load_state({"made_at": torch.tensor([3]), key: good})
    for wrong, said in (
        (changed(good, -1), f"'{key}' must hold entities from 0 to 127, got -1"),
        (changed(good, ENTITIES), f"'{key}' must hold entities from 0 to 127, got 128"),
        (good[:-1], f"'{key}' must have the shape "),
        (good.double(), f"'{key}' must be of int32, got torch.float64"),
    ):
        with pytest.raises(ValueError, match=said):
            sampler.load_state({"made_at": torch.tensor([3]), key: wrong})


def test_an_order_that_names_an_entity_twice_is_refused():
    sampler = sampler_of("eans")
    order = changed(sampler.state().get("entity_at", torch.arange(ENTITIES).int()), 0)
    with pytest.raises(ValueError, match="'entity_at' must hold each entity once"):
        sampler.load_state({"made_at": torch.tensor([3]), "entity_at": order})
