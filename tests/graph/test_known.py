"""The index of known triples against a look through all of them."""

import pytest
import torch
from torch import Tensor

from graph import growing, sorted_facts
from graph.answer_index import per_positive
from graph.known import KnownTriples, together
from tests.worlds import batch_of

ENTITIES, RELATIONS = 9, 3


def random_triples(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(high, (size,), generator=generator) for high in (ENTITIES, RELATIONS, ENTITIES)]
    return torch.stack(columns, dim=1)


def index_of(triples: Tensor) -> KnownTriples:
    return KnownTriples.of(triples, ENTITIES, RELATIONS)


def corrupted(batch_rows: Tensor, row: int, heads: int, entity: int) -> tuple[int, int, int]:
    head, relation, tail = batch_rows[row].tolist()
    return (entity, relation, tail) if row < heads else (head, relation, entity)


@pytest.mark.parametrize("heads", [0, 5, 12])
@pytest.mark.parametrize("size", [0, 1, 20, 120])
def test_answers_are_those_found_one_by_one(size: int, heads: int):
    triples = random_triples(size, seed=size)
    triples = torch.cat([triples, triples[: size // 2]])  # some facts twice
    facts = set(map(tuple, triples.tolist()))
    rows = torch.cat([triples[:6], random_triples(12, seed=7)])[:12]
    expected = [
        (row, entity) for row in range(12) for entity in range(ENTITIES) if corrupted(rows, row, heads, entity) in facts
    ]
    found = index_of(triples).answers(batch_of(rows, heads=heads))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
    if size == 20:
        assert {row for row, _ in expected} < set(range(12))  # some queries are unknown


@pytest.mark.parametrize("heads", [0, 4, 12])
@pytest.mark.parametrize("groups", [1, 3, 6, 12])
@pytest.mark.parametrize("size", [0, 1, 120])
def test_contains_agrees_with_a_look_through_all(size: int, groups: int, heads: int):
    triples = random_triples(size, seed=size)
    facts = set(map(tuple, triples.tolist()))
    rows = torch.cat([triples[:6], random_triples(12, seed=8)])[:12]
    entity = torch.randint(ENTITIES, (groups, 7), generator=torch.Generator().manual_seed(9))
    found = index_of(triples).contains(batch_of(rows, heads=heads), entity)
    assert found.shape == (12, 7)
    for row in range(12):
        for slot in range(7):
            negative = int(entity[row * groups // 12, slot])
            assert bool(found[row, slot]) == (corrupted(rows, row, heads, negative) in facts)
    if size == 120:
        assert found.any()
        assert not found.all()


def test_a_rank_without_positives_asks_for_nothing():
    known, batch = index_of(random_triples(40, seed=1)), batch_of(random_triples(4, seed=1)).chunks(2, 2)
    row, entity = known.answers(batch)
    assert row.shape == entity.shape == (0,)
    assert known.contains(batch, torch.empty((0, 5), dtype=torch.int64)).shape == (0, 5)


def test_a_positive_contains_itself():
    triples = random_triples(60, seed=2)
    for heads in (0, 60):
        batch = batch_of(triples, heads=heads)
        assert index_of(triples).contains(batch, batch.target[:, None]).all()


def test_graphs_whose_facts_do_not_fit_one_number_of_64_bits():
    entities, relations = 1 << 20, 1 << 30
    last = entities - 1
    triples = torch.tensor([[last, relations - 1, last], [last, relations - 1, 0], [0, 0, last], [last - 1, 0, last]])
    known = KnownTriples.of(triples, entities, relations)
    row, entity = known.answers(batch_of(triples, heads=2))
    assert list(zip(row.tolist(), entity.tolist(), strict=True)) == [
        (0, last), (1, last), (2, last), (3, last)
    ]  # fmt: skip
    candidates = torch.tensor([[last, 0, last - 1, 1 << 32]])
    assert known.contains(batch_of(triples[:1]), candidates).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("triples", [random_triples(500, seed=3), random_triples(500, seed=3).int()])
def test_an_index_that_is_sorted_in_pieces_is_the_same(triples: Tensor, monkeypatch: pytest.MonkeyPatch):
    whole = index_of(triples)
    monkeypatch.setattr(sorted_facts, "_FACTS", 7)
    monkeypatch.setattr(sorted_facts, "_BINS", 5)
    monkeypatch.setattr(growing, "_IN_MEMORY", 100)
    pieces = index_of(triples)
    for one, other in ((whole.tails, pieces.tails), (whole.heads, pieces.heads)):
        assert one.query.equal(other.query) and one.offset.equal(other.offset) and one.answer.equal(other.answer)
    assert whole.num_facts == len({tuple(row) for row in triples.tolist()}) < len(triples)


@pytest.mark.parametrize("heads", [0, 12])
def test_facts_of_several_indexes_are_looked_up_as_those_of_one(heads: int):
    one, other = random_triples(60, seed=4), random_triples(60, seed=5)
    apart, joined = together(index_of(one), index_of(other)), index_of(torch.cat([one, other]))
    batch, entity = batch_of(torch.cat([one[:6], other[:6]]), heads=heads), torch.arange(ENTITIES)[None]
    assert apart.contains(batch, entity).equal(joined.contains(batch, entity))
    for found, expected in zip(apart.answers(batch), joined.answers(batch), strict=True):
        assert found.equal(expected)
    assert {tuple(row) for row in one.tolist()} & {tuple(row) for row in other.tolist()}  # an answer of both comes once


def test_entities_of_a_group_are_repeated_for_its_positives():
    entity = torch.tensor([[1, 2], [3, 4]])
    assert per_positive(entity, 2).equal(entity)
    assert per_positive(entity, 6).tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
    assert per_positive(entity[:0], 0).shape == (0, 2)


@pytest.mark.parametrize("num_entities", [ENTITIES, 1 << 30])
def test_queries_take_four_bytes_where_they_can_and_answer_alike(num_entities: int):
    triples = random_triples(60, seed=5)
    batch, shift = batch_of(triples, heads=30), num_entities - ENTITIES
    shifted = triples + torch.tensor([shift, 0, shift])
    known = KnownTriples.of(shifted, num_entities, RELATIONS)
    assert known.tails.query.dtype == (torch.int32 if num_entities == ENTITIES else torch.int64)
    row, entity = known.answers(batch_of(shifted, heads=30))
    expected_row, expected = index_of(triples).answers(batch)
    assert row.tolist() == expected_row.tolist()
    assert (entity - shift).tolist() == expected.tolist()
    head, relation, tail = known.tails.facts(torch.arange(known.num_facts))
    assert set(map(tuple, torch.stack([head, relation, tail], 1).tolist())) == set(map(tuple, shifted.tolist()))
