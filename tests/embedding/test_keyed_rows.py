import pytest
import torch
from torch import Tensor

from embedding import free_memory
from embedding.keyed_rows import KeyedRows
from graph.counter_random import random_integers
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import graph_of, site_of
from trainer.runtime import Runtime

KEYS, WIDTH, WRITERS = 11, 3, 40  # 11: no number of ranks above 1 divides it


def writes() -> tuple[Tensor, Tensor, Tensor]:
    """Rows for keys, several for most of them; orders that neither ascend nor descend."""
    key = random_integers(1, torch.arange(WRITERS), KEYS - 1)  # the last key is never written
    order = torch.arange(WRITERS) * 7 % WRITERS
    return key, order, torch.stack([key, order, key * order], dim=1)


def expected() -> Tensor:
    rows = torch.zeros(KEYS, WIDTH, dtype=torch.int64)
    least = dict[int, int]()
    for key, order, row in zip(*writes(), strict=True):
        if order < least.get(int(key), WRITERS):
            least[int(key)] = int(order)
            rows[key] = row
    return rows


def store_and_read(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    rows = KeyedRows(site_of(graph_of([], KEYS, 1), runtime), KEYS, WIDTH, name="rows")
    key, order, row = writes()
    # Each rank has some of the writers, and the last of several ranks has none.
    writers = max(world_size - 1, 1)
    mine = slice(rank, WRITERS if rank < writers else 0, writers)
    rows.store(key[mine], order[mine], row[mine])
    asked = torch.arange(KEYS).repeat(2)[rank:].flip(0)
    return rows.fetch(asked), rows.fetch(torch.arange(KEYS))


def test_of_several_rows_for_a_key_the_one_of_least_order_is_kept():
    read, whole = store_and_read(0, 1)
    assert whole.equal(expected())
    assert read.equal(expected().repeat(2, 1).flip(0))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_keep_and_read_what_one_does(world_size: int):
    for rank, (read, whole) in enumerate(run_on_ranks(world_size, store_and_read)):
        assert whole.equal(expected())
        assert read.equal(expected().repeat(2, 1)[rank:].flip(0))


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**40 + 5])
def test_a_number_that_int32_can_not_hold_is_refused(number: int):
    rows = KeyedRows(site_of(graph_of([], KEYS, 1)), KEYS, 2, name="rows")
    key, fitting = torch.tensor([0]), torch.tensor([[2**31 - 1, -(2**31)]])
    rows.store(key, key, fitting)
    with pytest.raises(OverflowError, match=f"^rows of int32 can't hold {number}$"):
        rows.store(key, key, torch.tensor([[1, number]]))
    assert rows.fetch(key).equal(fitting)


def test_rows_that_memory_has_no_room_for_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 5 * 10**9)
    said = r"^generator.cache_size: caches would take 8.0 GB of memory on each rank, and 5.0 GB are free$"
    with pytest.raises(InputError, match=said):
        KeyedRows(site_of(graph_of([], KEYS, 1)), 10**9, 2, name="generator.cache_size: caches")


def test_ranks_of_a_machine_have_equal_shares_of_what_is_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 6000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert free_memory.free_for_a_rank(torch.device("cpu")) == 2000
