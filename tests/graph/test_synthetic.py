from collections import defaultdict
from typing import Any

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.statistics import RelationStatistics
from graph.synthetic import family_graph

Pairs = set[tuple[str, str]]


def make(
    num_people: int = 300,
    hidden_share: float = 0.1,
    valid_share: float = 0.05,
    test_share: float = 0.07,
    seed: int = 3,
) -> KnowledgeGraph:
    return family_graph(
        num_people=num_people, hidden_share=hidden_share, valid_share=valid_share, test_share=test_share, seed=seed
    )


def parts_of(graph: KnowledgeGraph) -> list[Int64[Tensor, "_ 3"]]:
    return [graph.train, graph.valid, graph.test, graph.hidden]


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return make()


@pytest.fixture(scope="module")
def facts(graph: KnowledgeGraph) -> dict[str, Pairs]:
    """All true (head, tail) by relation, by name."""
    pairs: dict[str, Pairs] = defaultdict(set)
    entity, relation_name = dict(enumerate(graph.entity_names)), dict(enumerate(graph.relation_names))
    for head, relation, tail in torch.cat(parts_of(graph)).tolist():
        pairs[relation_name[relation]].add((entity[head], entity[tail]))
    return pairs


def compose(first: Pairs, second: Pairs) -> Pairs:
    """(a, c) with (a, b) in the first and (b, c) in the second, a is not c."""
    tails = defaultdict(set)
    for head, tail in second:
        tails[head].add(tail)
    return {(a, c) for a, b in first for c in tails[b] if a != c}


def inverse(pairs: Pairs) -> Pairs:
    return {(tail, head) for head, tail in pairs}


def test_family_relations_are_closed_under_their_rules(facts: dict[str, Pairs]) -> None:
    parent = facts["parent_of"]
    assert facts["child_of"] == inverse(parent)
    assert facts["grandparent_of"] == compose(parent, parent)
    assert facts["sibling_of"] == compose(inverse(parent), parent)
    assert facts["aunt_or_uncle_of"] == compose(facts["sibling_of"], parent)
    assert facts["cousin_of"] == compose(inverse(facts["aunt_or_uncle_of"]), parent)
    assert facts["mother_of"] | inverse(facts["has_father"]) == parent
    for symmetric in ("spouse_of", "sibling_of", "cousin_of", "borders"):
        assert facts[symmetric] == inverse(facts[symmetric]), symmetric


def test_every_child_has_one_mother_and_one_father_who_are_spouses(facts: dict[str, Pairs]) -> None:
    mother = dict(inverse(facts["mother_of"]))
    father = dict(facts["has_father"])
    assert len(mother) == len(facts["mother_of"]) and len(father) == len(facts["has_father"])
    assert mother.keys() == father.keys()
    assert {(mother[child], father[child]) for child in mother} <= facts["spouse_of"]


def test_places_surnames_and_languages_follow_the_family(facts: dict[str, Pairs]) -> None:
    born, home, surname = (dict(facts[relation]) for relation in ("born_in", "lives_in", "has_surname"))
    assert all(born[child] == home[mother] for mother, child in facts["mother_of"])
    assert all(surname[child] == surname[father] for child, father in facts["has_father"])
    assert all(home[person] == home[spouse] for person, spouse in facts["spouse_of"])
    assert facts["native_of"] == compose(facts["born_in"], facts["located_in"])
    regions = (
        facts["native_of"]
        | compose(facts["lives_in"], facts["located_in"])
        | compose(inverse(facts["mother_of"]), facts["native_of"])
    )
    assert facts["speaks"] == compose(regions, facts["official_language"])
    assert inverse(facts["has_capital"]) <= facts["located_in"]


def test_a_profession_goes_with_the_parents_and_the_place(facts: dict[str, Pairs]) -> None:
    known = compose(facts["lives_in"], facts["known_for"])
    inherited = compose(facts["child_of"], facts["works_as"])
    explained = len(facts["works_as"] & (known | inherited)) / len(facts["works_as"])
    assert 0.75 < explained < 1


def test_most_couples_come_from_one_place() -> None:
    graph = make(num_people=2500)
    pairs = defaultdict(list)
    for head, relation, tail in torch.cat(parts_of(graph)).tolist():
        pairs[graph.relation_names[relation]].append((head, tail))
    born = dict(pairs["born_in"])
    together = sum(born[person] == born[spouse] for person, spouse in pairs["spouse_of"])
    assert 0.5 < together / len(pairs["spouse_of"]) < 0.9


def test_all_cardinalities_occur(graph: KnowledgeGraph) -> None:
    cardinality = RelationStatistics.of(torch.cat(parts_of(graph)), graph.num_entities, graph.num_relations).cardinality
    by_name = dict(zip(graph.relation_names, cardinality, strict=True))
    assert by_name["spouse_of"] == "1-1"
    assert by_name["mother_of"] == "1-N"
    assert by_name["has_father"] == by_name["born_in"] == "N-1"
    assert by_name["cousin_of"] == "N-N"


def test_splits_share_no_triple_and_have_the_sizes_asked_for(graph: KnowledgeGraph) -> None:
    parts = parts_of(graph)
    total = sum(len(part) for part in parts)
    assert len(torch.unique(torch.cat(parts), dim=0)) == total
    assert len(graph.hidden) == round(0.1 * total)
    assert len(graph.valid) == round(0.05 * total)
    assert len(graph.test) == round(0.07 * total)


@pytest.mark.parametrize("seed", range(5))
def test_train_has_every_entity_and_relation(seed: int) -> None:
    graph = make(num_people=100, seed=seed)
    assert sum(name.startswith("person_") for name in graph.entity_names) == 100
    assert len(set(graph.entity_names)) == graph.num_entities
    assert torch.equal(torch.unique(graph.train[:, [0, 2]]), torch.arange(graph.num_entities))
    assert torch.equal(torch.unique(graph.train[:, 1]), torch.arange(graph.num_relations))


def test_same_options_and_seed_give_the_same_graph(graph: KnowledgeGraph) -> None:
    again = make()
    assert list(again.entity_names) == list(graph.entity_names)
    assert all(torch.equal(one, other) for one, other in zip(parts_of(graph), parts_of(again), strict=True))


def test_another_seed_gives_another_world(graph: KnowledgeGraph) -> None:
    def parents(graph: KnowledgeGraph) -> set[tuple[int, ...]]:
        triples = torch.cat(parts_of(graph))
        return set(map(tuple, triples[triples[:, 1] == 0].tolist()))

    assert len(parents(graph) & parents(make(seed=4))) < 0.2 * len(parents(graph))


def test_nothing_is_hidden_when_no_share_is_asked_for() -> None:
    assert len(make(hidden_share=0.0).hidden) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_people": 99}, r"^graph\.num_people must be at least 100, got 99$"),
        ({"hidden_share": 1.0}, r"^graph\.hidden_share must be in \[0, 1\), got 1\.0$"),
        ({"valid_share": -0.1}, r"^graph\.valid_share must be in \[0, 1\), got -0\.1$"),
        ({"test_share": float("nan")}, r"^graph\.test_share must be in \[0, 1\), got nan$"),
        ({"hidden_share": 0.9}, r"^graph\.hidden_share \+ graph\.valid_share \+ graph\.test_share must .* got 1\.020$"),
        (
            {"hidden_share": 0.87},
            r"must leave every entity and relation in train, that is be at most 0\.9\d\d .* 0\.990$",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)
