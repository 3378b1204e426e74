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


def test_the_likeliest_of_many_are_those_of_all_entities():
    # Degrees by a power law, and many ties.
    draws = torch.rand((30_000, 2), generator=torch.Generator().manual_seed(0))
    triples = torch.stack([(20_000 * draws[:, 0] ** 4), torch.arange(30_000) % 7, 20_000 * draws[:, 1] ** 3], 1).long()
    slots = Slots.of(RelationStatistics.of(triples, num_entities=20_000, num_relations=7))
    members = [set(slots.entities(slot).tolist()) for slot in range(14)]
    of_entity = [[slot for slot in range(14) if entity in members[slot]] for entity in range(20_000)]
    for slot in (slots.head(0), slots.tail(5)):
        share = [len(members[slot] & other) / max(1, len(other)) for other in members]
        score = torch.tensor(
            [sum(share[each] for each in of) / len(of) if of else 0.0 for of in of_entity], dtype=torch.float64
        )
        score *= slots.degree
        for count in (0, 5, 900, 6_000, 20_000):
            best = score.argsort(descending=True, stable=True)[:count]
            assert slots.likely(slot, count).tolist() == best[score[best] > 0].tolist()
