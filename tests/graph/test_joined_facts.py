import pytest
import torch
from torch import Tensor

from graph.joined_facts import JoinedFacts
from graph.known import KnownFacts, KnownTriples, together
from tests.worlds import families


def index_of(triples: Tensor) -> KnownTriples:
    return KnownTriples.of(triples, families().num_entities, families().num_relations)


@pytest.mark.parametrize("parts", [1, 2])
def test_finds_the_answers_that_the_indexes_find(parts: int):
    graph = families()
    # Some facts are in both indexes; some queries have answers in one of them, or in none.
    indexes = [index_of(graph.train[:900]), index_of(torch.cat([graph.valid, graph.train[:100]]))][:parts]
    known: KnownFacts = indexes[0] if parts == 1 else together(*indexes)
    joined = JoinedFacts.of(known, graph.num_entities)
    assert joined.num_indexes == parts
    head, relation, tail = torch.cat([graph.train[800:1000], graph.test, graph.valid]).long().unbind(1)
    begin, end = joined.ranges(joined.keys(head, relation, tail))
    assert begin.shape == end.shape == (parts, 2 * len(head))
    for side, answers, anchor in ((0, known.heads, tail), (1, known.tails, head)):
        query, entity = answers.answers(anchor, relation)
        for number in range(len(head)):
            found: set[int] = set()
            for first, last in zip(
                *(each[:, side * len(head) + number].tolist() for each in (begin, end)), strict=True
            ):
                found |= set(joined.answer[first:last].tolist())
            assert found == set(entity[query == number].tolist())
