"""A built-in knowledge graph that needs no file: families over five generations, whose relations follow rules.

All true triples are known, including those that are in no split. So the exact rate of false negatives can be measured,
which is not possible for a graph from a file.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import random_bits, stream
from graph.errors import InputError
from graph.family_world import FamilyWorld
from graph.knowledge_graph import KnowledgeGraph

_FEWEST_PEOPLE = 100  # with fewer, some seeds have no cousins

RELATIONS = (
    "parent_of",
    "child_of",
    "mother_of",
    "has_father",
    "spouse_of",
    "sibling_of",
    "grandparent_of",
    "aunt_or_uncle_of",
    "cousin_of",
    "born_in",
    "lives_in",
    "native_of",
    "located_in",
    "borders",
    "has_capital",
    "works_as",
    "known_for",
    "has_surname",
    "speaks",
    "official_language",
)

_Thing = tuple[str, int]  # a kind ("person", "place", ...) and its number within the kind
_Pairs = set[tuple[_Thing, _Thing]]


def family_graph(
    *, num_people: int, hidden_share: float, valid_share: float, test_share: float, seed: int
) -> KnowledgeGraph:
    """The family graph: `num_people` people and about a tenth as many places, regions, professions and so on.

    There are five generations. Couples form within a generation, mostly between people of one place, never between
    siblings. Some people stay single. Some people of each generation are newcomers without parents in the graph.

    These relations follow rules without exception:
        child_of = inverse of parent_of         mother_of, has_father: parent_of by the parent's sex
        sibling_of: another child of a parent   grandparent_of = parent_of, parent_of
        aunt_or_uncle_of = sibling_of, parent_of                cousin_of: child of an aunt or uncle
        spouse_of (symmetric, at most one): the two parents of a child are spouses, spouses share lives_in and
        surnames come from the father; a child is born_in the place where its mother lives_in
        native_of = born_in, located_in         speaks: the official_language of the regions where someone was born,
                                                lives, or the mother was born
    These hold often, not always: a person works_as what a parent does, or what the home place is known_for; a person
    lives_in the own or the spouse's place of birth, or in a place that borders it; some families and places are large.

    The relations are 1-1 (spouse_of, has_capital), 1-N (mother_of), N-1 (has_father, born_in, located_in, ...) and N-N.
    Relatives, and people of the same place, make hard negatives.

    All true triples are shuffled and split: round(share * their number) go to `hidden` (in no split), to valid and to
    test. The rest is train, which has every entity and every relation at least once. Equal arguments give an equal
    graph, bit for bit.

    Raises:
        InputError: fewer than 100 people, a share outside [0, 1), or shares that leave too few triples for train.
    """
    shares = {"hidden": hidden_share, "valid": valid_share, "test": test_share}
    if num_people < _FEWEST_PEOPLE:
        raise InputError(f"graph.num_people must be at least {_FEWEST_PEOPLE}, got {num_people}")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(f"graph.{name}_share must be in [0, 1), got {share}")

    facts = _facts(FamilyWorld(num_people, seed))
    things = sorted({thing for pairs in facts.values() for pair in pairs for thing in pair})
    entity_of_thing = {thing: entity for entity, thing in enumerate(things)}
    triples = torch.tensor(
        [
            (entity_of_thing[head], relation, entity_of_thing[tail])
            for relation, name in enumerate(RELATIONS)
            for head, tail in sorted(facts[name])
        ]
    )
    train, parts = _split(triples, len(things), shares, seed)
    digits = {kind: len(str(number)) for kind, number in things}  # of the largest number: things are sorted
    return KnowledgeGraph(
        name="family",
        entity_names=[f"{kind}_{number:0{digits[kind]}d}" for kind, number in things],
        relation_names=RELATIONS,
        train=train,
        valid=parts["valid"],
        test=parts["test"],
        hidden=parts["hidden"],
    )


def _facts(world: FamilyWorld) -> dict[str, _Pairs]:
    """All true (head, tail) of each relation: those of the world and those that follow by the rules."""
    people = range(world.num_people)
    children: dict[int, list[int]] = {person: [] for person in people}
    for person in people:
        if world.mother[person] != -1:
            children[world.mother[person]].append(person)
            children[world.father[person]].append(person)
    parents = {person: {world.mother[person], world.father[person]} - {-1} for person in people}
    siblings = {person: {c for parent in parents[person] for c in children[parent]} - {person} for person in people}
    aunts = {person: {aunt for parent in parents[person] for aunt in siblings[parent]} for person in people}

    def family(pairs: Iterable[tuple[int, int]]) -> _Pairs:
        return {(("person", head), ("person", tail)) for head, tail in pairs}

    return {
        "parent_of": family((parent, person) for person in people for parent in parents[person]),
        "child_of": family((person, parent) for person in people for parent in parents[person]),
        "mother_of": family((world.mother[person], person) for person in people if parents[person]),
        "has_father": family((person, world.father[person]) for person in people if parents[person]),
        "spouse_of": family((person, world.spouse[person]) for person in people if world.spouse[person] != -1),
        "sibling_of": family((person, other) for person in people for other in siblings[person]),
        "grandparent_of": family(
            (old, person) for person in people for parent in parents[person] for old in parents[parent]
        ),
        "aunt_or_uncle_of": family((aunt, person) for person in people for aunt in aunts[person]),
        "cousin_of": family(
            (person, cousin) for person in people for aunt in aunts[person] for cousin in children[aunt]
        ),
        **_facts_of_places(world),
    }


def _facts_of_places(world: FamilyWorld) -> dict[str, _Pairs]:
    """All true (head, tail) of the relations in which the head or the tail is not a person."""
    people, places, regions = range(world.num_people), range(world.num_places), range(world.num_regions)
    native = [world.region[world.birthplace[person]] for person in people]
    speaks: _Pairs = set()
    for person in people:
        homes = {native[person], world.region[world.home[person]]}
        if world.mother[person] != -1:
            homes.add(native[world.mother[person]])
        speaks |= {(("person", person), ("language", world.language[region])) for region in homes}

    def of_person(kind: str, values: list[int]) -> _Pairs:
        return {(("person", person), (kind, value)) for person, value in enumerate(values)}

    return {
        "born_in": of_person("place", world.birthplace),
        "lives_in": of_person("place", world.home),
        "native_of": of_person("region", native),
        "located_in": {(("place", place), ("region", world.region[place])) for place in places},
        "borders": {(("place", place), ("place", other)) for place in places for other in world.borders[place]},
        "has_capital": {(("region", region), ("place", world.capital[region])) for region in regions},
        "works_as": of_person("profession", world.profession),
        "known_for": {(("place", place), ("profession", what)) for place in places for what in world.known_for[place]},
        "has_surname": of_person("surname", world.surname),
        "speaks": speaks,
        "official_language": {(("region", region), ("language", world.language[region])) for region in regions},
    }


def _split(
    triples: Int64[Tensor, "T 3"], num_entities: int, shares: dict[str, float], seed: int
) -> tuple[Int64[Tensor, "N 3"], dict[str, Int64[Tensor, "_ 3"]]]:
    """Splits triples into train and named parts of the given shares; train keeps every entity and relation."""
    shuffled = triples[torch.argsort(random_bits(stream("family graph: split", seed), torch.arange(len(triples))))]
    # The first triple of each entity and of each relation stays in train.
    number = torch.arange(len(triples))
    first = torch.full((num_entities + len(RELATIONS),), len(triples))
    head, relation, tail = shuffled.unbind(1)
    for slot in (head, tail, num_entities + relation):
        first.scatter_reduce_(0, slot, number, "amin")
    kept = torch.zeros(len(triples), dtype=torch.bool)
    kept[first] = True
    free = shuffled[~kept]

    sizes = [round(share * len(triples)) for share in shares.values()]
    if sum(sizes) > len(free):
        names = " + ".join(f"graph.{name}_share" for name in shares)
        raise InputError(
            f"{names} must leave every entity and relation in train, that is be at most "
            f"{len(free) / len(triples):.3f} for this graph, got {sum(shares.values()):.3f}"
        )
    *parts, rest = free.split([*sizes, len(free) - sum(sizes)])
    return torch.cat([shuffled[kept], rest]), dict(zip(shares, parts, strict=True))
