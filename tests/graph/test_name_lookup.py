import pytest

import graph.name_lookup
from graph.name_lookup import NameLookup


def test_ids_are_places_in_the_list():
    lookup = NameLookup(["Paris", "Bari", "", "\u00dcbung \u65e5\u672c", "a\tb"])
    assert lookup.ids(["\u00dcbung \u65e5\u672c", "Paris", "paris", "", "a\tb", "Paris"]) == [3, 0, None, 2, 4, 0]
    assert lookup.ids([]) == []


@pytest.mark.parametrize("most", [3, 20_000])
def test_near_names_look_alike(most: int, monkeypatch: pytest.MonkeyPatch):
    # With many names, few of them are compared: those that begin alike.
    monkeypatch.setattr(graph.name_lookup, "_MOST_COMPARED", most)
    lookup = NameLookup([*(f"entity_{number}" for number in range(500)), "Paris", "Bari", "London", "Lyon"])
    assert lookup.near("Pariss")[0] == "Paris"
    assert lookup.near("entity_1234")[0] in ("entity_123", "entity_124", "entity_134", "entity_234")
    assert lookup.near("zzzzzzzz") == []
    assert lookup.near("") == []


def test_names_of_the_same_words_come_first():
    lookup = NameLookup(["Dylan Thomas", "Dylan, Bob", "Bob Dyler", "The Beatles"])
    assert lookup.near("Bob Dylan")[:2] == ["Dylan, Bob", "Bob Dyler"]
    assert lookup.near("bob dylan")[0] == "Dylan, Bob"
