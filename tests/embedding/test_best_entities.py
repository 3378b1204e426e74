"""The best of many blocks are the best of all, whatever their order; of equal ones, those with lower ids."""

import pytest
import torch
from torch import Tensor

from embedding.best_entities import BestEntities
from embedding.best_of_table import best_of_table
from embedding.scoring.candidates import Candidates
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import families, model_of, set_entities, site_of
from trainer.runtime import Runtime


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [1, 3, 1000], ids=lambda values: f"{values} values")
@pytest.mark.parametrize("count", [1, 7, 60])
def test_are_those_of_a_stable_sort(count: int, values: int, dtype: torch.dtype):
    random = torch.Generator().manual_seed(count + values)
    value = torch.randint(values, (5, 50), generator=random).to(dtype)
    value[torch.rand(value.shape, generator=random) < 0.1] = -torch.inf
    best = BestEntities(5, count, torch.device("cpu"))
    for entity in torch.randperm(50, generator=random).split([4, 20, 1, 25]):
        best.add(entity, value[:, entity])
    expected = value.sort(dim=1, descending=True, stable=True).indices[:, :count]
    assert best.entity.equal(expected)
    assert best.value.equal(value.double().gather(1, expected))


def test_each_query_may_add_its_own_entities():
    best = BestEntities(2, 2, torch.device("cpu"))
    best.add(torch.tensor([[5, 1], [4, 3]]), torch.tensor([[1.0, 1.0], [2.0, 9.0]]))
    best.add(torch.tensor([[0, 2], [9, 8]]), torch.tensor([[1.0, 0.0], [2.0, 5.0]]))
    assert best.entity.tolist() == [[0, 1], [3, 8]]


PAIRS = (torch.tensor([0, 1, 1]), torch.tensor([3, 77, 0]))


def best_by_column(rank: int, world_size: int, block_rows: int) -> list[tuple[Tensor, Tensor, int]]:
    """For two queries, entities by their first and by their second number, which take 5 values: most of them tie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedding.best_of_table.BLOCK_ROWS", block_rows)
        runtime = Runtime(rank, world_size, torch.device("cpu"))
        model = model_of(site_of(families(), runtime), dim=2)
        set_entities(model, numbers())
        found = []
        for among in (None, torch.arange(100, 20, -2), torch.tensor([7])):
            pairs: list[int] = []
            best = best_of_table(
                model,
                lambda candidates: candidates.rows()[0].T.clone(),
                2,
                9,
                left_out=PAIRS,
                among=among,
                progress=pairs.append,
            )
            found.append((*best.filled(), sum(pairs)))
        return found


def numbers() -> Tensor:
    return torch.randint(5, (families().num_entities, 2), generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("block_rows", [64, 1024])
def test_the_best_of_the_table_are_those_of_all_its_rows(block_rows: int):
    for (entity, value, pairs), among in zip(
        best_by_column(0, 1, block_rows), (torch.arange(128), torch.arange(22, 101, 2), torch.tensor([7])), strict=True
    ):
        assert pairs == 2 * len(among)
        expected = numbers().T.index_put(PAIRS, torch.tensor(-torch.inf, dtype=torch.float64))[:, among]
        order = expected.sort(dim=1, descending=True, stable=True)
        there = min(9, len(among))
        assert entity[:, :there].equal(among[order.indices[:, :there]])
        assert value[:, :there].equal(order.values[:, :there])
        assert (value[:, there:] == -torch.inf).all()


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_find_what_one_finds(world_size: int):
    alone = best_by_column(0, 1, 1024)
    for found in run_on_ranks(world_size, best_by_column, 1024):
        for (entity, value, _), (of_one, value_of_one, _) in zip(found, alone, strict=True):
            assert entity.equal(of_one)
            assert value.equal(value_of_one)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_no_numbers_are_an_error(wrong: float):
    model = model_of(site_of(families()), dim=2)
    rows = numbers()
    rows[5, 1] = wrong
    set_entities(model, rows)

    def values(candidates: Candidates) -> Tensor:
        return candidates.rows()[0].T.clone()

    nothing = torch.empty(0, dtype=torch.int64)
    with pytest.raises(InputError, match="the model 'discriminator' gives scores that are nan or infinite"):
        best_of_table(model, values, 2, 3, left_out=(nothing, nothing), among=None, progress=[].append)
