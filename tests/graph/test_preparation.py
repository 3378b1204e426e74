"""Triples as a set, kept splits without repetitions, and what is said of a graph, each against plain loops."""

import dataclasses
from collections import Counter

import torch
from torch import Tensor

from graph.distinct import distinct, numbered_by_name
from graph.knowledge_graph import KnowledgeGraph
from graph.portrait import portrait_of
from graph.preparation import keep_splits
from tests.worlds import families


def rows(triples: Tensor) -> list[tuple[int, int, int]]:
    return [(h, r, t) for h, r, t in triples.tolist()]


def named(graph: KnowledgeGraph, split: str) -> list[tuple[str, str, str]]:
    entity, relation = graph.entity_names, graph.relation_names
    return [(entity[h], relation[r], entity[t]) for h, r, t in rows(getattr(graph, split))]


def random_graph(seed: int = 0) -> KnowledgeGraph:
    """Small splits with all kinds of repetitions; names are not in the order of ids, and two are never used."""
    generator = torch.Generator().manual_seed(seed)

    def split(count: int, entities: int) -> Tensor:
        pick = torch.randint(entities, (count, 3), generator=generator)
        return pick.fmod(torch.tensor([entities, 3, entities]))

    names = [f"é{7 * each % 12}" for each in range(12)]
    return KnowledgeGraph("random", names, ["z", "a", "m", "never"], split(60, 9), split(30, 11), split(40, 11))


def test_distinct_rows_are_those_of_a_set():
    triples = random_graph().train.long()
    assert rows(distinct(triples)) == sorted(set(rows(triples)))
    large = torch.tensor([[1 << 26, 1 << 14, 1 << 26], [0, 0, 1], [1 << 26, 1 << 14, 1 << 26], [1 << 26, 0, 5]])
    assert rows(distinct(large)) == sorted(set(rows(large)))
    assert len(distinct(triples[:0])) == 0


def test_numbers_by_name():
    graph = random_graph()
    other = numbered_by_name(graph)
    used = {name for split in ("train", "valid", "test") for h, _, t in named(graph, split) for name in (h, t)}
    assert list(other.entity_names) == sorted(used, key=str.encode)
    assert list(other.relation_names) == ["a", "m", "z"]
    for split in ("train", "valid", "test"):
        assert named(other, split) == named(graph, split)


def test_kept_splits_lose_what_repeats_and_what_train_lacks():
    graph = random_graph()
    train, valid, test = (named(graph, split) for split in ("train", "valid", "test"))
    new_valid, new_test = set(valid) - set(train), set(test) - set(train) - set(valid)
    seen = {name for h, _, t in train for name in (h, t)}
    good_valid, good_test = ({(h, r, t) for h, r, t in part if {h, t} <= seen} for part in (new_valid, new_test))
    for covered in (True, False):
        kept, removed = keep_splits(graph, covered=covered)
        for split, expected in (
            ("train", set(train)),
            ("valid", good_valid if covered else new_valid),
            ("test", good_test if covered else new_test),
        ):
            assert named(kept, split) == sorted(expected)
        assert dataclasses.astuple(removed) == (
            sum(len(part) - len(set(part)) for part in (train, valid, test)),
            len(set(valid)) - len(new_valid),
            len(set(test)) - len(new_test),
            len(new_valid - good_valid) if covered else 0,
            len(new_test - good_test) if covered else 0,
        )
        assert covered or all(dataclasses.astuple(removed)[:3])
    assert new_valid != good_valid


def test_a_portrait_says_what_plain_loops_count():
    graph, _ = keep_splits(random_graph(3), covered=False)
    portrait = portrait_of(graph)
    train = set(rows(graph.train))
    for split in ("valid", "test"):
        triples, leaks = rows(getattr(graph, split)), portrait.leaks[split]
        others = range(3)
        assert leaks.reversed == sum(any((t, o, h) in train for o in others if o != r) for h, r, t in triples) > 0
        assert leaks.mirrored == sum((t, r, h) in train for h, r, t in triples if h != t) > 0
        assert leaks.other_relation == sum(any((h, o, t) in train for o in others if o != r) for h, r, t in triples) > 0
    degree = Counter(name for h, _, t in named(graph, "train") for name in (h, t))
    lacking = sum(not (degree[h] and degree[t]) for h, _, t in named(graph, "valid"))
    assert portrait.uncovered["valid"] == lacking > 0
    top = dict(portrait.degrees.most_connected)
    assert top == {name: degree[name] for name in top}
    assert sorted(top.values()) == sorted(degree[name] for name in graph.entity_names)[-10:]
    assert portrait.degrees.most_connected[0][1] == portrait.degrees.most == max(degree.values())
    for low, high, count in portrait.degrees.counts:
        assert count == sum(low <= degree[name] <= high for name in graph.entity_names) > 0
    assert sum(count for _, _, count in portrait.degrees.counts) == graph.num_entities


def test_classes_of_relations_add_up():
    portrait = portrait_of(families())
    classes = portrait.cardinality
    assert sum(each["relations"] for each in classes.values()) == 20
    assert all(each["relations"] for each in classes.values())
    for split in ("train", "valid", "test"):
        assert sum(each[split] for each in classes.values()) == len(getattr(families(), split))
    of_name = {row.name: row for row in portrait.relation}
    assert of_name["mother_of"].cardinality == "1-N"
    assert of_name["mother_of"].train == sum(
        r == families().relation_names.index("mother_of") for _, r, _ in rows(families().train)
    )
