"""The table on one rank against a plain tensor, and partitioned against one rank."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from embedding.initial import InitialValues
from embedding.table import EmbeddingTable
from graph.errors import InputError
from graph.partition import EntityPlacement
from kernels.row_gradient import RowGradient
from kernels.updates import Ball, rowwise_adagrad
from tests.kernels.arrays import without_kernels
from tests.ranks import run_on_ranks

WIDTH = 3


def placement_of(entities: int, seed: int | None, *, replicated: bool) -> EntityPlacement:
    """A random placement, or by id."""
    order = torch.arange(entities)
    if seed is not None:
        order = torch.randperm(entities, generator=torch.Generator().manual_seed(seed))
    return EntityPlacement.from_order(order, replicated=replicated)


def table_of(
    entities: int,
    rank: int = 0,
    world_size: int = 1,
    *,
    placed: int | None = 0,
    name: str = "t",
    replicated: bool = False,
) -> EmbeddingTable:
    return EmbeddingTable(
        name,
        placement_of(entities, placed, replicated=replicated),
        WIDTH,
        rank=rank,
        world_size=world_size,
        initial=InitialValues(False, torch.ones(WIDTH, dtype=torch.float64)),
        seed=7,
        dtype=torch.float64,
        device=torch.device("cpu"),
    )


def weights(ids: Tensor) -> Tensor:
    """A different weight for each number of a look-up's result, so that every gradient entry counts."""
    return torch.arange(1, ids.numel() * WIDTH + 1, dtype=torch.float64).view(*ids.shape, WIDTH)


def test_look_ups_and_gradients_equal_a_plain_tensors() -> None:
    table = table_of(9)
    plain = table.gather_all(table.weight.detach()).requires_grad_()
    first, second = torch.tensor([[1, 8, 1], [0, 1, 8]]), torch.tensor([8, 2])
    for look_up in (table, lambda ids: plain[ids]):
        (look_up(first) * weights(first)).sum().backward()
        (look_up(second).square() * weights(second)).sum().backward()
    assert torch.equal(table(first), plain[first])
    gradient = table.take_gradient()
    dense = torch.zeros(9, WIDTH, dtype=torch.float64)
    dense[table.entity[gradient.row]] = gradient.value
    torch.testing.assert_close(dense, plain.grad)
    assert gradient.row.tolist() == sorted({int(table.row_of_entity[e]) for e in (0, 1, 2, 8)})


def test_a_gradient_is_taken_once_and_not_kept_without_grad() -> None:
    table = table_of(5)
    with torch.no_grad():
        table(torch.tensor([1, 2]))
    assert len(table.take_gradient().row) == 0
    table(torch.tensor([1, 2])).sum().backward()
    assert len(table.take_gradient().row) == 2
    assert len(table.take_gradient().row) == 0


def test_losses_that_share_a_look_up_add_up() -> None:
    table = table_of(5)
    rows = table(torch.tensor([1, 2]))
    rows.sum().backward(retain_graph=True)
    (2 * rows).sum().backward()
    assert table.take_gradient().value.tolist() == [[3.0] * WIDTH] * 2


def test_gradients_of_float32_rows_are_summed_in_float64() -> None:
    table = table_of(3)
    table.weight = table.weight.detach().float().requires_grad_()
    ids = torch.zeros(3, dtype=torch.int64)
    (table(ids) * torch.tensor([[1e8], [1.0], [-1e8]])).sum().backward()
    assert table.take_gradient().value[0].tolist() == [1.0] * WIDTH  # float32 would lose the 1


def test_initial_rows_are_a_function_of_seed_name_and_entity() -> None:
    one = table_of(50)
    rows = one.gather_all(one.weight.detach())
    other = table_of(50, placed=3)
    assert torch.equal(rows, other.gather_all(other.weight.detach()))
    parts = [table_of(50, rank, 3) for rank in range(3)]
    for part in parts:
        assert torch.equal(part.weight, rows[part.entity])
    renamed = table_of(50, name="u")
    assert not torch.equal(rows, renamed.gather_all(renamed.weight.detach()))
    assert rows.abs().max() <= 1.0
    assert rows.std().item() == pytest.approx(1 / 3**0.5, rel=0.15)


def asked_by(rank: int, entities: int, seed: int) -> Tensor:
    """What each rank looks up: different numbers of ids, with repetitions; the last rank asks for nothing."""
    generator = torch.Generator().manual_seed(seed)
    everything = torch.randint(entities, (3, 4), generator=generator)
    return everything[rank] if rank < 2 else everything[0, :0]


def used(rank: int, world_size: int, entities: int, placed: int | None, *, replicated: bool) -> dict[str, Any]:
    """What a rank finds in a table that is partitioned or replicated."""
    table = table_of(entities, rank, world_size, placed=placed, replicated=replicated)
    table.replicate()
    found = []
    for seed in (0, 1):
        ids = asked_by(rank, entities, seed)
        rows = table(ids)
        (rows * weights(ids) * (rank + 1)).sum().backward()
        found.append(rows.detach())
    table(asked_by(rank, entities, 2))  # a look-up that no backward reaches
    gradient = table.take_gradient()
    dense = torch.zeros_like(table.weight.detach()).index_copy(0, gradient.row, gradient.value)
    rows = table.gather_all(table.weight.detach())
    with_gradient = table.entity[gradient.row].tolist()
    return {"found": found, "gradient": table.gather_all(dense), "rows": rows, "with gradient": with_gradient}


WORLDS = [(entities, placed) for entities in (9, 2, 1) for placed in (0, None)]  # 2 of 3 ranks own a row, or 1


def used_worlds(rank: int, world_size: int, replicated: bool) -> list[dict[str, Any]]:
    return [used(rank, world_size, *world, replicated=replicated) for world in WORLDS]


@pytest.mark.parametrize("replicated", [False, True], ids=["partitioned", "replicated"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_a_table_of_several_ranks_equals_one_on_one_rank(world_size: int, replicated: bool) -> None:
    found = run_on_ranks(world_size, used_worlds, replicated)
    for world, results in zip(WORLDS, zip(*found, strict=True), strict=True):
        assert_equal_to_one_rank(*world, list(results))
        if replicated:  # as on one rank, only rows that backward reached
            reached = {
                int(entity)
                for rank in range(world_size)
                for seed in (0, 1)
                for entity in asked_by(rank, world[0], seed)
            }
            assert sorted(entity for each in results for entity in each["with gradient"]) == sorted(reached)


def changed_on_ranks(rank: int, world_size: int) -> str:
    """The error of a backward after the rows have changed."""
    table = table_of(9, rank, world_size, replicated=True)
    table.replicate()
    rows = table(torch.tensor([1, 2]))
    table.replicate()
    with pytest.raises(RuntimeError) as raised:
        rows.sum().backward()
    return str(raised.value)


def test_backward_after_a_replica_has_changed_is_an_error() -> None:
    for said in run_on_ranks(2, changed_on_ranks):
        assert said.startswith("the rows of a table have changed since they were looked up")


def assert_equal_to_one_rank(
    entities: int,
    placed: int | None,
    results: list[dict[str, Any]],
    *,
    asked: Callable[[int, int, int], Tensor] = asked_by,
) -> None:
    single = table_of(entities, placed=placed)
    rows = single.gather_all(single.weight.detach()).requires_grad_()
    for rank, result in enumerate(results):
        for seed in (0, 1):
            ids = asked(rank, entities, seed)
            (rows[ids] * weights(ids) * (rank + 1)).sum().backward()
            assert torch.equal(result["found"][seed], rows[ids].detach())
    for result in results:
        assert torch.equal(result["rows"], rows.detach())
        torch.testing.assert_close(result["gradient"], rows.grad, rtol=1e-14, atol=0)


def stepped(table: EmbeddingTable) -> None:
    """What an optimiser does that a kernel runs."""
    row = torch.tensor([0])
    ones = torch.ones(1, WIDTH, dtype=torch.float64)
    state = torch.zeros(len(table.weight), 1, dtype=torch.float64)
    rowwise_adagrad(table.weight, state, RowGradient(row, ones), lr=0.1, eps=1e-8, ball=Ball((), None))


def loaded(table: EmbeddingTable) -> None:
    """What reading a checkpoint does, to some rows."""
    table.weight[torch.arange(len(table.weight)) > 1] = 1.0


MOVES: dict[str, Callable[[EmbeddingTable], None]] = {
    "a step by a kernel": stepped,
    "a step by plain torch": lambda table: without_kernels(stepped, table),
    "loading": loaded,
    "clipping": lambda table: Ball((WIDTH,), 0.1).clip_(table.weight),
}


@pytest.mark.parametrize("move", MOVES)
def test_backward_after_the_table_has_changed_is_an_error(move: str) -> None:
    table = table_of(9)
    before, reached = table(torch.tensor([1, 2])), table(torch.tensor([3]))
    reached.sum().backward()
    MOVES[move](table)
    for run in (before.sum().backward, table.take_gradient):
        with pytest.raises(RuntimeError, match=r"^the rows of a table have changed since they were looked up"):
            run()
    table(torch.tensor([1, 2])).sum().backward()
    assert len(table.take_gradient().row) == 2


def test_a_change_of_one_table_leaves_look_ups_of_another() -> None:
    one, other = table_of(9), table_of(9)
    rows = one(torch.tensor([1]))
    loaded(other)
    rows.sum().backward()
    assert len(one.take_gradient().row) == 1


def test_look_ups_without_a_step_do_not_pile_up() -> None:
    table = table_of(9)
    held = table(torch.tensor([4]))
    for entity in range(50):
        table(torch.tensor([entity % 9]))
        assert len(table._lookups) <= 3
    held.sum().backward()
    table(torch.tensor([5])).sum().backward()
    del held
    for _ in range(50):  # those that have a gradient stay
        table(torch.tensor([1]))
    gradient = table.take_gradient()
    assert table.entity[gradient.row].sort().values.tolist() == [4, 5]
    assert gradient.value.tolist() == [[1.0] * WIDTH] * 2


def piled_up(rank: int, world_size: int) -> dict[str, Any]:
    """How many look-ups wait where the ranks do not use the same ones, and the gradients that come of them."""
    table = table_of(9, rank, world_size)
    held = [table(torch.tensor([4])) for _ in range(20 if rank else 2)]
    for _ in range(0 if rank else 18):
        table(torch.tensor([4]))
    waiting = []
    for _ in range(200):
        table(torch.tensor([rank]))
        waiting.append(len(table._lookups))
    for rows in held:
        rows.sum().backward()
    gradient = table.take_gradient()
    return {"waiting": max(waiting), "entity": table.entity[gradient.row].tolist(), "value": gradient.value.tolist()}


@pytest.mark.slow
def test_ranks_agree_which_look_ups_are_of_no_use() -> None:
    results = run_on_ranks(2, piled_up)
    # Twenty that the second rank still uses, two of them the first as well; and at most as many again.
    assert [each["waiting"] <= 48 for each in results] == [True, True]
    found = [(entity, value) for each in results for entity, value in zip(each["entity"], each["value"], strict=True)]
    assert (4, [22.0] * WIDTH) in found
    assert all(value == [0.0] * WIDTH for entity, value in found if entity != 4)


@pytest.mark.usefixtures("compiled")  # the limit is the kernels'
def test_more_rows_than_int32_can_number_are_refused() -> None:
    entity = torch.zeros(1, dtype=torch.int64).expand(2**31)  # takes no memory
    with pytest.raises(InputError, match=r"^one step looks up 2147483648 rows of 't', .*trainer.batch_size"):
        table_of(9).look_up(entity)
