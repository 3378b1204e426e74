"""Tables on disk: states cover all pairs of shards, epochs all triples, and draws are from what is in memory."""

from itertools import combinations, pairwise

import pytest
import torch
from scipy.stats import chisquare

from graph import bucket_file
from graph.bucket_file import sorted_by_shards
from graph.errors import InputError
from graph.partition import EntityPlacement, random_placement
from graph.sampling import PositiveOrder
from graph.shards import DiskPlan, beta_order, row_bounds
from tests.worlds import families

SHARDS, RESIDENT = 7, 3


@pytest.mark.parametrize(("shards", "resident"), [(2, 2), (3, 2), (7, 3), (16, 4), (16, 15)])
def test_states_cover_all_pairs_and_change_one_shard_at_a_time(shards, resident):
    states = beta_order(shards, resident)
    met = {pair for state in states for pair in combinations(state, 2)}
    assert met == set(combinations(range(shards), 2))
    assert all(len(set(state)) == resident for state in states)
    assert all(len(set(one) - set(two)) == 1 for one, two in pairwise(states))


def test_it_reads_fewer_shards_than_buckets_would():
    # 120 pairs of 16 shards; each further shard in memory meets three others.
    assert len(beta_order(16, 4)) - 1 <= 120 / 3 * 1.1


@pytest.fixture
def placement() -> EntityPlacement:
    return random_placement(families(), 3, storage="disk", shards=SHARDS, resident=RESIDENT, folder="not used")


@pytest.fixture
def order(placement, tmp_path) -> PositiveOrder:
    train = families().train.int()
    half = torch.full((families().num_relations,), 0.5, dtype=torch.float64)
    ordered, states = sorted_by_shards(train, placement, tmp_path, "t")
    return PositiveOrder(ordered, half, batch_size=64, chunk_size=4, sides="one", seed=1, states=states)


@pytest.mark.parametrize("block", [100, 1 << 20])
def test_the_file_has_train_sorted_by_shards_and_is_taken_again(block, placement, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_file, "_BLOCK", block)
    train = families().train.int()
    ordered, _ = sorted_by_shards(train, placement, tmp_path, "t")
    shard = torch.bucketize(placement.row_of_entity, row_bounds(families().num_entities, SHARDS)[1:], right=True)
    bucket = shard[train[:, 0].long()] * SHARDS + shard[train[:, 2].long()]
    assert ordered.equal(train[bucket.argsort(stable=True)])
    written = (tmp_path / "t.int32").stat().st_mtime_ns
    assert sorted_by_shards(train, placement, tmp_path, "t")[0].equal(ordered)
    assert (tmp_path / "t.int32").stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["t.int32"]


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_file_whose_bytes_have_changed_is_made_again(place, placement, tmp_path, caplog):
    train, file = families().train.int(), tmp_path / "t.int32"
    ordered = sorted_by_shards(train, placement, tmp_path, "t")[0].clone()
    good = file.read_bytes()
    damaged = bytearray(good)
    damaged[place] ^= 1
    file.write_bytes(damaged)
    assert sorted_by_shards(train, placement, tmp_path, "t")[0].equal(ordered)
    assert file.read_bytes() == good
    assert f"placement.folder: {file} is damaged: making it again" in caplog.text


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_has_every_triple_once_when_its_shards_are_in_memory(epoch, order, placement):
    seen = []
    for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
        batch = order.batch(step)
        entities = set(batch.resident.entity(torch.arange(batch.resident.count)).tolist())
        assert entities >= {*batch.head.tolist(), *batch.tail.tolist()}
        assert len(batch.resident.shards) == RESIDENT
        kept = batch.weight > 0
        seen.append(torch.stack([batch.head, batch.relation, batch.tail], dim=1)[kept])
    counted = torch.cat(seen).tolist()
    assert sorted(counted) == sorted(families().train.tolist())


def test_an_epoch_begins_with_what_is_in_memory_and_says_what_comes_next(order):
    residents = [order.batch(step).resident for step in range(3 * order.steps_per_epoch)]
    for epoch in (1, 2):
        assert residents[epoch * order.steps_per_epoch - 1].shards == residents[epoch * order.steps_per_epoch].shards
    for one, two in pairwise(residents):
        assert two.shards in (one.shards, one.following)


def test_each_epoch_has_other_states_and_as_many_steps(order):
    of_epoch = [
        [order.batch(epoch * order.steps_per_epoch + step).resident.shards for step in range(order.steps_per_epoch)]
        for epoch in range(3)
    ]
    assert len({tuple(sorted(set(states))) for states in of_epoch}) == 3


def test_batches_of_a_state_are_alike(order):
    """A state's last batch would else be a few positives that count as much as a whole batch."""
    sizes: dict[tuple[int, ...], set[int]] = {}
    for step in range(order.steps_per_epoch):
        batch = order.batch(step)
        sizes.setdefault(batch.resident.shards, set()).add(len(batch.chunk))
    assert all(max(each) - min(each) <= 1 for each in sizes.values())
    assert all(1 <= size <= order.chunks_per_batch for each in sizes.values() for size in each)


def test_negatives_are_uniform_over_the_entities_in_memory(order):
    batch = order.batch(5)
    drawn = batch.entities("negatives", 2000, families().num_entities).flatten()
    count = torch.bincount(drawn, minlength=families().num_entities)
    inside = batch.resident.entity(torch.arange(batch.resident.count))
    assert count[inside].sum() == len(drawn)
    assert chisquare(count[inside].numpy()).pvalue > 0.001


def test_chunks_of_an_epoch_have_numbers_of_their_own(order):
    chunk = torch.cat([order.batch(step).chunk for step in range(order.steps_per_epoch)])
    assert len(chunk.unique()) == len(chunk)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("paper", 4, 2), "placement.storage must be one of memory, replicated, disk, got 'paper'"),
        (("disk", 0, 2), "placement.shards must be from 1 to 10, got 0"),
        (("disk", 11, 2), "placement.shards must be from 1 to 10, got 11"),
        (("disk", 4, 1), r"placement.resident must be from 2 to placement.shards \(4\), got 1"),
        (("disk", 4, 5), r"placement.resident must be from 2 to placement.shards \(4\), got 5"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        DiskPlan.of(*options, None, 10)


def test_triples_that_the_disk_cant_take_are_refused(placement, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_file, "_WIDTH", 1 << 40)  # 2 petabytes
    with pytest.raises(InputError, match=r"placement.folder: .* can't take [\d.e+]+ GB of sorted triples"):
        sorted_by_shards(families().train.int(), placement, tmp_path, "t")
    assert not list(tmp_path.iterdir())
