import pytest
import torch

from graph.known import KnownTriples, per_positive
from graph.sampling import PositiveOrder

ENTITIES, RELATIONS = 12, 3


@pytest.fixture
def facts() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    head, tail = (torch.randint(ENTITIES, (90,), generator=generator) for _ in range(2))
    relation = torch.randint(RELATIONS, (90,), generator=generator)
    return torch.stack([head, relation, tail], dim=1)  # with repetitions


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_answers_and_membership_equal_brute_force(facts: torch.Tensor, chunk_size: int) -> None:
    # Queries of other triples than the known ones, so that some have no answer at all.
    known = KnownTriples(facts[:40], ENTITIES, RELATIONS)
    truth = {tuple(row) for row in facts[:40].tolist()}
    half = torch.full((RELATIONS,), 0.5, dtype=torch.float64)
    batch = PositiveOrder(facts, half, batch_size=64, chunk_size=chunk_size, seed=0).batch(0)
    entity = batch.integers("entities", 9, ENTITIES)
    contains = known.contains(batch, entity)
    answers = set(zip(*(column.tolist() for column in known.answers(batch)), strict=True))
    for row in range(len(batch.head)):
        h, r, t = batch.head[row].item(), batch.relation[row].item(), batch.tail[row].item()
        corrupts_head = row < batch.head_rows
        expected = [((e, r, t) if corrupts_head else (h, r, e)) in truth for e in entity[row // chunk_size].tolist()]
        assert contains[row].tolist() == expected
        all_true = {e for e in range(ENTITIES) if ((e, r, t) if corrupts_head else (h, r, e)) in truth}
        assert {e for index, e in answers if index == row} == all_true
    assert contains.any()
    assert not contains.all()


def test_an_empty_index_and_an_empty_batch_know_nothing(facts: torch.Tensor) -> None:
    half = torch.full((RELATIONS,), 0.5, dtype=torch.float64)
    batch = PositiveOrder(facts, half, batch_size=8, chunk_size=1, seed=0).batch(0)
    nothing = KnownTriples(facts[:0], ENTITIES, RELATIONS)
    assert not nothing.contains(batch, batch.integers("entities", 5, ENTITIES)).any()
    assert len(nothing.answers(batch)[0]) == 0
    nobody, known = batch.chunks(0, 0), KnownTriples(facts, ENTITIES, RELATIONS)
    assert known.contains(nobody, nobody.integers("entities", 5, ENTITIES)).shape == (0, 5)
    assert len(known.answers(nobody)[0]) == 0


def test_large_ids_do_not_collide() -> None:
    entities, relations = 50_000_000, 1_000
    facts = torch.tensor([[entities - 1, relations - 1, entities - 2], [entities - 2, 0, 5]])
    known = KnownTriples(facts, entities, relations)
    anchor, relation = torch.tensor([entities - 1, entities - 2]), torch.tensor([relations - 1, 0])
    found = known.tails.contains(anchor, relation, torch.tensor([[entities - 2, 5], [entities - 2, 5]]))
    assert found.tolist() == [[True, False], [False, True]]


def test_candidates_of_a_chunk_are_repeated_for_its_positives() -> None:
    entity = torch.tensor([[1, 2], [3, 4]])
    assert per_positive(entity, 4).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert per_positive(entity, 2) is entity
