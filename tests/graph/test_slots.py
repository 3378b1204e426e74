import torch

from graph.slots import Slots
from graph.statistics import RelationStatistics

# Relation 0: directed by; 1: acted in, the other way round; 2: has no triples. Entities 0 to 3 are films.
TRAIN = torch.tensor([(0, 0, 6), (1, 0, 6), (2, 0, 7), (8, 1, 0), (8, 1, 1), (9, 1, 3)])
SLOTS = Slots.of(RelationStatistics.of(TRAIN, num_entities=12, num_relations=3))


def entities(slot: int) -> list[int]:
    return SLOTS.entities(slot).tolist()


def test_a_slot_has_the_entities_that_train_has_there():
    assert [entities(SLOTS.head(relation)) for relation in range(3)] == [[0, 1, 2], [8, 9], []]
    assert [entities(SLOTS.tail(relation)) for relation in range(3)] == [[6, 7], [0, 1, 3], []]


def test_similar_slots_share_enough_entities():
    # Of the three films with a cast, two have a director.
    assert SLOTS.alike(SLOTS.head(0), 0.66).tolist() == [0, 1, 2, 3]
    assert SLOTS.alike(SLOTS.head(0), 0.67).tolist() == [0, 1, 2]
    assert SLOTS.alike(SLOTS.tail(1), 0.5).tolist() == [0, 1, 2, 3]
    assert SLOTS.alike(SLOTS.tail(0), 0.01).tolist() == [6, 7]
    assert SLOTS.alike(SLOTS.head(2), 0.5).tolist() == []


def test_likely_entities_come_by_their_degree_and_by_what_their_slots_share():
    # Of the three films with a cast, two have a director: a film with a cast alone is two thirds likely to have one.
    expected = {0: 2 * (1 + 2 / 3) / 2, 1: 2 * (1 + 2 / 3) / 2, 2: 1.0, 3: 2 / 3}
    assert SLOTS.likely(SLOTS.head(0), 10).tolist() == sorted(expected, key=lambda film: -expected[film])
    assert SLOTS.likely(SLOTS.head(0), 3).tolist() == [0, 1, 2]
    assert SLOTS.likely(SLOTS.head(2), 10).tolist() == []
