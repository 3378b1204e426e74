import pytest
import torch
from jaxtyping import Int64
from scipy.stats import chisquare
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError
from graph.sampling import PositiveOrder

RELATIONS = 3


def triples(count: int) -> Int64[Tensor, "T 3"]:
    number = torch.arange(count)
    return torch.stack([number, number % RELATIONS, number + 1], dim=1)


def order_of(
    count: int, *, batch_size: int, chunk_size: int, head_probability: float = 0.5, seed: int = 0
) -> PositiveOrder:
    probability = torch.full((RELATIONS,), head_probability, dtype=torch.float64)
    return PositiveOrder(triples(count), probability, batch_size=batch_size, chunk_size=chunk_size, seed=seed)


def epoch_of(order: PositiveOrder, epoch: int) -> list[Batch]:
    return [order.batch(epoch * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]


@pytest.mark.parametrize("head_probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("count", "batch_size", "chunk_size"), [(50, 8, 1), (50, 12, 3), (50, 16, 4), (5, 64, 8)])
def test_each_positive_counts_once_an_epoch(
    count: int, batch_size: int, chunk_size: int, head_probability: float
) -> None:
    order = order_of(count, batch_size=batch_size, chunk_size=chunk_size, head_probability=head_probability)
    for epoch in range(3):
        counted = torch.zeros(count, dtype=torch.float64)
        for batch in epoch_of(order, epoch):
            assert len(batch.head) == len(batch.chunk) * chunk_size <= batch_size
            counted.index_add_(0, batch.head, batch.weight)
        assert torch.equal(counted, torch.ones(count, dtype=torch.float64))


def test_chunks_have_one_side_and_heads_come_first() -> None:
    order = order_of(400, batch_size=40, chunk_size=4, head_probability=0.5)
    order.head_probability = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    for batch in epoch_of(order, 0):
        counted = batch.weight > 0
        head = batch.relation[: batch.head_rows][counted[: batch.head_rows]]
        tail = batch.relation[batch.head_rows :][counted[batch.head_rows :]]
        assert (head != 1).all()
        assert (tail == 1).all()
        assert torch.equal(batch.anchor, torch.cat([batch.tail[: batch.head_rows], batch.head[batch.head_rows :]]))
        assert torch.equal(batch.target, torch.cat([batch.head[: batch.head_rows], batch.tail[batch.head_rows :]]))


def test_sides_are_drawn_with_the_relations_probability() -> None:
    order = order_of(3000, batch_size=100, chunk_size=1)
    order.head_probability = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    heads = torch.zeros(RELATIONS)
    for batch in epoch_of(order, 0):
        heads += torch.bincount(batch.relation[: batch.head_rows], minlength=RELATIONS)
    for relation, share in enumerate([0.1, 0.5, 0.8]):
        observed = heads[relation].item()
        assert chisquare([observed, 1000 - observed], [1000 * share, 1000 * (1 - share)]).pvalue > 1e-4


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first, again = (order_of(60, batch_size=10, chunk_size=2, seed=4) for _ in range(2))
    other = order_of(60, batch_size=10, chunk_size=2, seed=5)
    again.batch(17)  # what was asked for before does not matter
    step = first.steps_per_epoch
    assert torch.equal(first.batch(3).head, again.batch(3).head)
    assert not torch.equal(first.batch(3).head, other.batch(3).head)
    assert not torch.equal(first.batch(3).head, first.batch(3 + step).head)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_ranks_share_a_batch_without_changing_it(world_size: int) -> None:
    whole = order_of(50, batch_size=20, chunk_size=4).batch(1)
    total = len(whole.chunk)
    parts = [whole.chunks(total * r // world_size, total * (r + 1) // world_size) for r in range(world_size)]
    for name in ("head", "relation", "tail", "weight", "chunk"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert sum(part.head_chunks for part in parts) == whole.head_chunks
    for draw in (
        lambda batch: batch.integers("x", 5, 1000),
        lambda batch: batch.uniform("x", 5),
        lambda batch: batch.uniform_per_positive("x", 3),
    ):
        assert torch.equal(torch.cat([draw(part) for part in parts]), draw(whole))
    value = torch.arange(len(whole.head), dtype=torch.float64)
    shares = torch.stack([part.share_of_mean(value[: len(part.head)] * 0 + 2.0) for part in parts])
    assert shares.sum().item() == pytest.approx(2.0)


def test_a_purpose_has_numbers_of_its_own() -> None:
    batch = order_of(50, batch_size=20, chunk_size=4).batch(1)
    assert not torch.equal(batch.integers("x", 5, 1000), batch.integers("y", 5, 1000))


@pytest.mark.parametrize(
    ("batch_size", "chunk_size", "message"),
    [
        (0, 1, "trainer.batch_size must be at least 1, got 0"),
        (4, 0, "trainer.chunk_size must be at least 1, got 0"),
        (10, 4, r"trainer.chunk_size must divide trainer.batch_size \(10\), got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(batch_size: int, chunk_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        order_of(10, batch_size=batch_size, chunk_size=chunk_size)
