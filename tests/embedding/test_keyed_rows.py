import pytest
import torch
from torch import Tensor

from embedding import free_memory
from embedding.fixed_pieces import ChunkShare
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


def rows_of(rank: int, world_size: int) -> KeyedRows:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    return KeyedRows(site_of(graph_of([], KEYS, 1), runtime), KEYS, WIDTH, name="rows")


def store_and_read(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    rows = rows_of(rank, world_size)
    key, order, row = writes()
    # Each rank has some of the writers, and the last of several ranks has none.
    writers = max(world_size - 1, 1)
    mine = slice(rank, WRITERS if rank < writers else 0, writers)
    rows.store(rows.look_up(key[mine]), order[mine], row[mine].int())
    asked = torch.arange(KEYS).repeat(2)[rank:].flip(0)
    return rows.fetch(asked), rows.fetch(torch.arange(KEYS))


def test_of_several_rows_for_a_key_the_one_of_least_order_is_kept():
    read, whole = store_and_read(0, 1)
    assert whole.equal(expected())
    assert read.equal(expected().repeat(2, 1).flip(0))


def store_in_pieces(rank: int, world_size: int, factor: float, good: bool) -> tuple[Tensor, bool, Tensor, Tensor]:
    """Rows as read before they are settled; whether some did not fit; as read afterwards; the whole."""
    rows = rows_of(rank, world_size)
    key, order, row = (each.chunk(4) for each in writes())
    begin, end = (4 * each // world_size for each in (rank, rank + 1))  # 3 ranks: 1, 1 and 2 of the quarters
    key, order, row = (torch.cat(each[begin:end]) for each in (key, order, row))
    rows.pieces.share, rows.pieces.factor, rows.holds_back = ChunkShare(end - begin, 2), factor, True
    found = rows.look_up(key)
    rows.store(found, order, row.int())
    missed = rows.pieces.take_missed()
    assert missed is not None
    before = rows.fetch(key)
    rows.settle(torch.tensor(good))
    after = rows.fetch(key)
    rows.pieces.share, rows.holds_back = None, False
    rows.settle(None)
    return before, bool(missed), after, rows.fetch(torch.arange(KEYS))


@pytest.mark.slow
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_in_pieces_of_a_fixed_size_ranks_keep_what_one_does_once_it_is_settled(world_size: int, good: bool):
    for before, missed, after, whole in run_on_ranks(world_size, store_in_pieces, 1.0, good):
        assert not missed and not before.any()
        assert whole.equal(expected() if good else torch.zeros_like(expected()))
        assert bool(after.any()) == good


@pytest.mark.slow
def test_keys_that_do_not_fit_are_noticed():
    assert any(missed for _, missed, _, _ in run_on_ranks(2, store_in_pieces, 0.02, False))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_keep_and_read_what_one_does(world_size: int):
    for rank, (read, whole) in enumerate(run_on_ranks(world_size, store_and_read)):
        assert whole.equal(expected())
        assert read.equal(expected().repeat(2, 1)[rank:].flip(0))


def test_more_rows_than_int32_can_number_are_refused():
    said = rf"^generator.cache_size: caches: at most {2**31 - 1} rows can be numbered in int32, got {2**31}$"
    with pytest.raises(InputError, match=said):
        KeyedRows(site_of(graph_of([], KEYS, 1)), 2**31, 1, name="generator.cache_size: caches")


def test_keys_lie_at_random_and_each_once():
    rows = KeyedRows(site_of(graph_of([], KEYS, 1)), 1000, 1, name="rows")
    assert rows.key.sort().values.equal(torch.arange(1000))
    assert rows.key[:5].tolist() == [787, 263, 421, 484, 804]  # others would read checkpoints in a wrong order
    # A number of 100 draws without replacement from 1,000, of which 100 are wanted: 10 on average, 2.85 its deviation.
    of_first = [int((rows.key[start : start + 100] < 100).sum()) for start in range(0, 1000, 100)]
    assert max(of_first) < 25


def test_rows_that_memory_has_no_room_for_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 5 * 10**9)
    said = r"^generator.cache_size: caches would take 12.0 GB of memory on each rank, and 5.0 GB are free$"
    with pytest.raises(InputError, match=said):
        KeyedRows(site_of(graph_of([], KEYS, 1)), 10**9, 2, name="generator.cache_size: caches")


def test_ranks_of_a_machine_have_equal_shares_of_what_is_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "free_memory", lambda: 6000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert free_memory.free_for_a_rank(torch.device("cpu")) == 2000
