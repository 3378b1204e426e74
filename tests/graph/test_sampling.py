"""The order of positives: what an epoch holds, in which chunks, on which side."""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from graph import sampling
from graph.batch import Batch
from graph.errors import InputError
from graph.sampling import PositiveOrder

PROBABILITY = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


def train_set(size: int) -> Tensor:
    """Distinct triples over three relations, none of them in order."""
    number = torch.arange(size)
    return torch.stack([number * 7 % 64, number % 3, number], dim=1)


def order(
    size: int = 50,
    *,
    batch_size: int = 12,
    chunk_size: int = 1,
    sides: str = "one",
    seed: int = 3,
    probability: Tensor = PROBABILITY,
) -> PositiveOrder:
    sizes = {"batch_size": batch_size, "chunk_size": chunk_size}
    return PositiveOrder(train_set(size), probability, **sizes, sides=sides, seed=seed)


def epoch_of(positives: PositiveOrder, epoch: int) -> list[Batch]:
    steps = positives.steps_per_epoch
    return [positives.batch(step) for step in range(epoch * steps, (epoch + 1) * steps)]


def triples(batch: Batch) -> list[tuple[int, ...]]:
    """The positives that count, fillers left out."""
    rows = torch.stack([batch.head, batch.relation, batch.tail], dim=1)
    return [tuple(row) for row in rows[batch.weight > 0].tolist()]


@pytest.mark.parametrize("chunk_size", [1, 3, 4])
@pytest.mark.parametrize("size", [1, 47, 48, 50])
def test_with_both_sides_each_positive_occurs_once_with_each(size: int, chunk_size: int):
    positives = order(size, chunk_size=chunk_size, sides="both")
    batches = epoch_of(positives, 1)
    chunks = torch.cat([batch.chunk for batch in batches])
    assert chunks.sort().values.equal(torch.arange(positives.num_chunks))  # each with random numbers of its own
    seen: list[tuple[int, ...]] = []
    for batch in batches:
        assert batch.head_rows * 2 == len(batch.head) <= 2 * 12
        head_side, tail_side = batch.chunks(0, batch.head_chunks), batch.chunks(batch.head_chunks, len(batch.chunk))
        assert triples(head_side) == triples(tail_side)
        assert batch.global_weight == max(2 * len(triples(head_side)), 1)
        seen += triples(head_side)
    assert sorted(seen) == sorted(map(tuple, train_set(size).tolist()))


@pytest.mark.parametrize("chunk_size", [1, 3, 4])
@pytest.mark.parametrize("size", [1, 47, 48, 50])
@pytest.mark.parametrize("probability", [[0.1, 0.5, 0.9], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
def test_each_positive_occurs_once_an_epoch(size: int, chunk_size: int, probability: list[float]):
    positives = order(size, chunk_size=chunk_size, probability=torch.tensor(probability, dtype=torch.float64))
    for epoch in range(4):
        batches = epoch_of(positives, epoch)
        seen = [triple for batch in batches for triple in triples(batch)]
        assert sorted(seen) == sorted(map(tuple, train_set(size).tolist()))
        # All chunks of the epoch, each once, in batches that are full but for the last.
        chunks = torch.cat([batch.chunk for batch in batches])
        assert chunks.sort().values.equal(torch.arange(positives.num_chunks))
        assert [len(batch.chunk) for batch in batches[:-1]] == [12 // chunk_size] * (len(batches) - 1)
        assert 0 < len(batches[-1].chunk) <= 12 // chunk_size
        for batch in batches:
            assert len(batch.head) == len(batch.chunk) * chunk_size
            assert batch.epoch == epoch
            assert set(batch.weight.tolist()) <= {0.0, 1.0}
            assert batch.global_weight == max(batch.weight.sum(), 1)


def test_chunks_of_one_need_no_filling():
    assert all((batch.weight == 1).all() for batch in epoch_of(order(50), 0))
    assert order(48).steps_per_epoch == 4


@pytest.mark.parametrize("chunk_size", [1, 3, 4])
def test_a_chunk_has_one_side_and_head_chunks_come_first(chunk_size: int):
    # Relation 1 always has its head corrupted, the others never.
    positives = order(chunk_size=chunk_size, probability=torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    heads = 0
    for batch in epoch_of(positives, 0) + epoch_of(positives, 1):
        counts = batch.weight > 0
        assert (batch.relation[: batch.head_rows][counts[: batch.head_rows]] == 1).all()
        assert (batch.relation[batch.head_rows :][counts[batch.head_rows :]] != 1).all()
        heads += int(counts[: batch.head_rows].sum())
    assert heads == 2 * int((train_set(50)[:, 1] == 1).sum())


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_sides_are_drawn_with_the_relations_probability(chunk_size: int):
    epochs, size = 60, 90
    positives = order(size, chunk_size=chunk_size)
    corrupted = torch.zeros(size, dtype=torch.int64)
    for epoch in range(epochs):
        for batch in epoch_of(positives, epoch):
            counts = batch.weight[: batch.head_rows] > 0
            corrupted[batch.tail[: batch.head_rows][counts]] += 1  # the tail numbers the triple
    relation = train_set(size)[:, 1]
    for number, probability in enumerate(PROBABILITY.tolist()):
        share = corrupted[relation == number]
        draws = epochs * len(share)
        heads = int(share.sum())
        assert chisquare([heads, draws - heads], [draws * probability, draws * (1 - probability)]).pvalue > 1e-3
        # Drawn anew for each positive and epoch: neither the same in all epochs, nor one draw for the relation.
        spread = math.sqrt(epochs * probability * (1 - probability))
        assert 0.6 * spread < share.double().std() < 1.5 * spread


def same(first: Batch, second: Batch) -> bool:
    names = ("head", "relation", "tail", "weight", "chunk")
    return first.head_chunks == second.head_chunks and all(
        getattr(first, name).equal(getattr(second, name)) for name in names
    )


def test_a_step_is_a_function_of_seed_and_number_alone():
    forwards = [order(chunk_size=3).batch(step) for step in range(15)]
    positives = order(chunk_size=3)
    for step in reversed(range(15)):
        assert same(positives.batch(step), forwards[step])
    other = order(chunk_size=3, seed=4)
    assert not any(same(other.batch(step), forwards[step]) for step in range(5))


def test_epochs_differ_in_order_and_sides():
    positives = order(chunk_size=1)
    first, second = (epoch_of(positives, epoch) for epoch in (0, 1))
    assert [triples(batch) for batch in first] != [triples(batch) for batch in second]
    heads = [{row for batch in epoch for row in batch.tail[: batch.head_rows].tolist()} for epoch in (first, second)]
    assert heads[0] != heads[1]
    # Heads and tails come mixed, not one side after the other.
    assert all(0 < batch.head_chunks < len(batch.chunk) for batch in first[:-1])


def test_a_batch_of_filling_alone_counts_nothing():
    # Two chunks for four positives: where all have one side, the other chunk is empty.
    positives = order(4, batch_size=4, chunk_size=4, probability=torch.zeros(3, dtype=torch.float64))
    empty, full = sorted(epoch_of(positives, 0), key=lambda batch: float(batch.weight.sum()))
    assert full.weight.sum() == 4
    assert empty.weight.sum() == 0
    assert empty.share_of_mean(torch.ones(4)) == 0


@pytest.fixture
def small_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SECTION", 36)  # three batches of 12


@pytest.mark.usefixtures("small_sections")
@pytest.mark.parametrize("sides", ["one", "both"])
@pytest.mark.parametrize("chunk_size", [1, 3, 4, 12])
@pytest.mark.parametrize("size", [35, 36, 37, 24, 100, 333])
def test_with_sections_too_each_positive_occurs_once_an_epoch(size: int, chunk_size: int, sides: str):
    positives = order(size, chunk_size=chunk_size, sides=sides)
    assert (positives.num_sections > 1) == (size > (36 if sides == "both" or chunk_size == 1 else 36 - chunk_size))
    of_each = 2 if sides == "both" else 1
    for epoch in range(2):
        batches = epoch_of(positives, epoch)
        seen = [triple for batch in batches for triple in triples(batch)]
        assert sorted(seen) == sorted([*map(tuple, train_set(size).tolist())] * of_each)
        chunks = torch.cat([batch.chunk for batch in batches])
        assert chunks.sort().values.equal(torch.arange(positives.num_chunks))
        assert [len(batch.chunk) for batch in batches[:-1]] == [12 // chunk_size * of_each] * (len(batches) - 1)
        assert all(len(batch.head) == len(batch.chunk) * chunk_size for batch in batches)


@pytest.mark.usefixtures("small_sections")
def test_positives_come_at_all_places_of_an_epoch_of_sections_equally_often():
    size, epochs = 100, 120
    positives = order(size)
    place = torch.zeros(size, positives.steps_per_epoch, dtype=torch.int64)
    for epoch in range(epochs):
        for step, batch in enumerate(epoch_of(positives, epoch)):
            place[batch.tail, step] += 1  # the tail numbers the triple
    expected = torch.tensor([12.0] * 8 + [4.0], dtype=torch.float64) / size * epochs
    assert chisquare(place.flatten().numpy(), expected.repeat(size).numpy(), ddof=size + 8).pvalue > 1e-3
    assert positives.num_sections == 3


@pytest.mark.usefixtures("small_sections")
def test_a_step_of_a_section_is_a_function_of_seed_and_number_alone():
    forwards = [order(200, chunk_size=3).batch(step) for step in range(40)]
    positives = order(200, chunk_size=3)
    for step in reversed(range(40)):
        assert same(positives.batch(step), forwards[step])


def test_graphs_of_one_section_keep_the_order_of_runs_before_there_were_sections():
    rows = torch.cat([batch.tail for batch in epoch_of(order(20, chunk_size=4), 1)])
    assert rows.tolist() == [1, 8, 17, 0, 10, 12, 15, 4, 0, 6, 7, 3, 14, 2, 5, 13, 11, 19, 9, 16, 18, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "trainer.batch_size must be at least 1, got 0"),
        ({"batch_size": -4}, "trainer.batch_size must be at least 1, got -4"),
        ({"chunk_size": 0}, "trainer.chunk_size must be at least 1, got 0"),
        (
            {"chunk_size": 5},
            "trainer.chunk_size must divide trainer.batch_size (12), got 5: a batch is a whole number of chunks",
        ),
        (
            {"chunk_size": 24},
            "trainer.chunk_size must divide trainer.batch_size (12), got 24: a batch is a whole number of chunks",
        ),
    ],
)
def test_wrong_sizes_are_named(options: dict[str, int], message: str):
    with pytest.raises(InputError) as error:
        order(**options)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def test_sides_other_than_one_or_both_are_named():
    with pytest.raises(InputError, match=r"^trainer\.sides must be one of one, both, got 'head'$"):
        order(sides="head")
