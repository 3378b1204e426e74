"""Samplers that keep entities in int32 refuse a graph with more of them, before anything is made."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from generator.eans import EANSSampler
from generator.near_miss import NearMissSampler
from generator.nearest import NearestSampler
from generator.nscaching import NSCachingSampler
from generator.sampler import NegativeSampler, SamplerContext
from generator.typed import TypedSampler
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids
from graph.neighbours import Neighbours
from tests.worlds import context_of, families, model_of, site_of

LISTS = {"list_size": 3, "uniform_share": 0.1, "refresh_epochs": 1, "mask_known": True}
POOLS = {"uniform_share": 0.1, "mask_known": True, "redraw_known": False}
CACHES = {
    "cache_size": 3,
    "fresh_size": 3,
    "temperature": 1.0,
    "select": "importance",
    "refresh_epochs": 1,
    "max_caches": None,
}
SAMPLERS: list[tuple[str, Callable[..., NegativeSampler], dict[str, object]]] = [
    ("generator.list_size", NearestSampler, {"metric": "l2", **LISTS}),
    ("generator.list_size", NearMissSampler, {"window": "above", **LISTS}),
    ("generator=nscaching", NSCachingSampler, {"mask_known": True, **CACHES}),
    ("generator=typed", TypedSampler, POOLS),
    (
        "generator=eans",
        EANSSampler,
        {"clusters": 2, "iterations": 1, "spread": 2.0, "refresh_steps": 1, "mask_known": True},
    ),
]


def context() -> SamplerContext:
    site = site_of(families())
    return context_of(families(), site, model_of(site))


@pytest.mark.parametrize(("what", "sampler", "options"), SAMPLERS, ids=lambda each: getattr(each, "__name__", ""))
def test_too_many_entities_are_refused(what: str, sampler: Callable[..., NegativeSampler], options: dict[str, object]):
    with pytest.raises(InputError) as error:
        sampler(replace(context(), num_entities=2**31 + 1), num_negatives=2, **options)
    expected = f"{what} keeps entities in int32, which numbers 2147483648; the graph has 2147483649 entities"
    assert str(error.value) == expected


def test_sets_of_neighbours_are_refused():
    graph = families()
    neighbours = Neighbours(graph.train, graph.num_entities, torch.device("cpu"))
    neighbours.num_entities = 2**31 + 1  # a real graph of so many would take gigabytes
    with pytest.raises(InputError, match=r"^generator.pool=exact keeps entities in int32, which numbers 2147483648; "):
        neighbours.within(1, memory_mb=1)


def test_as_many_as_int32_numbers_are_taken():
    expect_int32_ids("generator=eans", 2**31)
    assert torch.tensor(2**31 - 1).int() == 2**31 - 1
