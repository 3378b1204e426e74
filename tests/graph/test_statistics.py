import gzip
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from graph.statistics import RelationStatistics


def domain_of(statistics: RelationStatistics, relation: int) -> Tensor:
    return statistics.domain_entity[statistics.domain_offset[relation] : statistics.domain_offset[relation + 1]]


def range_of(statistics: RelationStatistics, relation: int) -> Tensor:
    return statistics.range_entity[statistics.range_offset[relation] : statistics.range_offset[relation + 1]]


def test_hand_example() -> None:
    # relation 0: entity 0 has tails 1, 2, 3 (1-N); relation 1: heads 1, 2 of entity 3 (N-1); relation 2: unseen;
    # relation 3: one pair
    train = torch.tensor([[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 3], [2, 1, 3], [1, 1, 3], [4, 3, 4]])
    statistics = RelationStatistics.of(train, num_entities=6, num_relations=4)
    assert statistics.tails_per_head.tolist() == [3.0, 1.0, 0.0, 1.0]
    assert statistics.heads_per_tail.tolist() == [1.0, 2.0, 0.0, 1.0]
    assert statistics.head_probability.tolist() == pytest.approx([3 / 4, 1 / 3, 1 / 2, 1 / 2])
    assert list(statistics.cardinality) == ["1-N", "N-1", "1-1", "1-1"]
    assert domain_of(statistics, 1).tolist() == [1, 2]
    assert range_of(statistics, 0).tolist() == [1, 2, 3]
    assert domain_of(statistics, 2).tolist() == range_of(statistics, 2).tolist() == []
    assert statistics.entity_degree.tolist() == [3, 2, 2, 3, 2, 0]


def test_a_mean_of_one_and_a_half_is_many() -> None:
    # heads 0, 1 have tails {2, 3} and {4}: 1.5 tails a head, 1 head a tail
    train = torch.tensor([[0, 0, 2], [0, 0, 3], [1, 0, 4]])
    assert RelationStatistics.of(train, num_entities=5, num_relations=1).cardinality == ("1-N",)


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_entities, num_relations = 12, 5
    size = torch.tensor([num_entities, num_relations - 1, num_entities])  # the last relation does not occur
    train = (torch.rand(150, 3, generator=generator) * size).long()  # with repeats
    statistics = RelationStatistics.of(train, num_entities, num_relations)

    tails, heads = defaultdict(set), defaultdict(set)
    degree = Counter[int]()
    for head, relation, tail in set(map(tuple, train.tolist())):
        tails[relation, head].add(tail)
        heads[relation, tail].add(head)
        degree.update([head, tail])
    assert statistics.entity_degree.tolist() == [degree[entity] for entity in range(num_entities)]
    triples = Counter(relation for _, relation, _ in set(map(tuple, train.tolist())))
    assert statistics.relation_triples.tolist() == [triples[relation] for relation in range(num_relations)]
    for relation in range(num_relations):
        domain = sorted(head for r, head in tails if r == relation)
        range_ = sorted(tail for r, tail in heads if r == relation)
        assert domain_of(statistics, relation).tolist() == domain
        assert range_of(statistics, relation).tolist() == range_
        if domain:
            per_head = sum(len(tails[relation, head]) for head in domain) / len(domain)
            per_tail = sum(len(heads[relation, tail]) for tail in range_) / len(range_)
            assert statistics.tails_per_head[relation].item() == pytest.approx(per_head)
            assert statistics.heads_per_tail[relation].item() == pytest.approx(per_tail)
            assert statistics.head_probability[relation].item() == pytest.approx(per_head / (per_head + per_tail))
            name = ("N" if per_tail >= 1.5 else "1") + "-" + ("N" if per_head >= 1.5 else "1")
            assert statistics.cardinality[relation] == name


def test_ids_of_a_large_graph_do_not_overflow() -> None:
    num_entities, num_relations = 20_000_000, 30_000  # (relation, head, tail) as one number would need 2^63.4
    train = torch.tensor(
        [[num_entities - 1, num_relations - 1, num_entities - 2], [num_entities - 1, num_relations - 1, 5], [3, 0, 3]]
    )
    statistics = RelationStatistics.of(train, num_entities, num_relations)
    assert domain_of(statistics, num_relations - 1).tolist() == [num_entities - 1]
    assert range_of(statistics, num_relations - 1).tolist() == [5, num_entities - 2]
    assert statistics.tails_per_head[num_relations - 1].item() == 2.0


def _fb15k237() -> Path:
    return Path(os.environ.get("ADVKGE_DATA", "")) / "FB15k-237" / "train.txt.gz"


def _ids(path: Path) -> tuple[Int64[Tensor, "T 3"], int, int]:
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        triples = []
        for line in lines:
            head, relation, tail = line.rstrip("\n").split("\t")
            triples.append(
                (
                    entities.setdefault(head, len(entities)),
                    relations.setdefault(relation, len(relations)),
                    entities.setdefault(tail, len(entities)),
                )
            )
    return torch.tensor(triples), len(entities), len(relations)


@pytest.mark.skipif(
    "ADVKGE_DATA" not in os.environ or not _fb15k237().exists(), reason="FB15k-237 is not in $ADVKGE_DATA"
)
def test_fb15k237_has_the_published_shares_of_relations() -> None:
    # 7.17 / 10.97 / 36.28 / 45.56 % of the relations in the papers on sampling by cardinality
    statistics = RelationStatistics.of(*_ids(_fb15k237()))
    assert Counter(statistics.cardinality) == {"1-1": 17, "1-N": 26, "N-1": 86, "N-N": 108}
