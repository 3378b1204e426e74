"""Metrics by relation and by class of relations."""

import pytest
import torch

from graph.statistics import RelationStatistics
from reporting.relation_ranks import as_table, by_class, by_relation, hardest
from trainer.evaluate import TripleRanks

# Relation 0 is 1-1, 1 is 1-N, 2 is N-1, and 3 is not in train.
TRAIN = torch.tensor([(0, 0, 1), (0, 1, 1), (0, 1, 2), (0, 1, 3), (1, 2, 0), (2, 2, 0), (3, 2, 0)])
RANKED = torch.tensor([(0, 1, 4), (5, 1, 6), (1, 0, 2), (4, 2, 0), (0, 3, 1)])
RANKS = TripleRanks(
    head=torch.tensor([[1, 2, 4, 10, 1], [1, 2, 4, 12, 1]]), tail=torch.tensor([[5, 10, 1, 1, 1], [5, 10, 1, 1, 3]])
)


@pytest.fixture
def statistics() -> RelationStatistics:
    return RelationStatistics.of(TRAIN, 7, 4)


def test_metrics_of_each_relation_are_those_of_its_triples(statistics):
    groups = by_relation(RANKS, RANKED, ["one", "many", "few", "new"], statistics)
    assert [(group.name, group.kind, group.train, group.ranked) for group in groups] == [
        ("many", "1-N", 3, 2),
        ("one", "1-1", 1, 1),
        ("few", "N-1", 3, 1),
        ("new", "1-1", 0, 1),
    ]
    assert groups[0].mrr == pytest.approx({"head": 0.75, "tail": 0.15, "both": 0.45})
    assert groups[0].hits1 == {"head": 0.5, "tail": 0, "both": 0.25}
    assert groups[0].hits10 == {"head": 1, "tail": 1, "both": 1}
    assert groups[2].hits10["head"] == 0  # rank 11, the mean of 10 and 12
    assert groups[3].mrr["tail"] == 0.5
    whole = RANKS.metrics()
    weighted = sum(group.mrr["both"] * group.ranked for group in groups) / 5
    assert weighted == pytest.approx(whole.both["mrr"])


def test_classes_are_sums_of_their_relations(statistics):
    groups = by_class(RANKS, RANKED, statistics)
    assert [(group.name, group.train, group.ranked) for group in groups] == [
        ("1-1", 1, 2),
        ("1-N", 3, 2),
        ("N-1", 3, 1),
    ]
    assert groups[0].mrr["head"] == pytest.approx((1 / 4 + 1) / 2)
    rows = as_table("By class", groups, first="class").rows
    assert [cell.text for cell in rows[1][:4]] == ["1-N", "3", "2", "0.450"]


def test_a_part_of_the_ranks_has_metrics_of_its_own():
    part = RANKS.of(RANKED[:, 1] == 1).metrics()
    assert (part.head["mrr"], part.tail["mrr"], part.both["count"]) == (0.75, pytest.approx(0.15), 4)


def test_hardest_relations_have_enough_triples(statistics):
    triples = RANKED[[0, 1] * 5 + [3] * 9]
    ranks = TripleRanks(torch.full((2, 19), 3), torch.full((2, 19), 3))
    groups = by_relation(ranks, triples, ["one", "many", "few", "new"], statistics)
    assert [group.name for group in hardest(groups)] == ["many"]
