"""The facts that are found are the best of all pairs that may be facts; and limits hold."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from answers.completions import Completions
from answers.discovery import Discovered, Limits, discover
from answers.left_out import notes_of
from answers.queries import ASKED
from graph.statistics import RelationStatistics
from tests.answers.test_completions import completions_of
from tests.worlds import families, graph_of, model_of, one_rank, site_of

LIMITS = Limits(count=20, per_relation=None, per_head=None, heads=None, overlap=1.0, seed=0)


def completions() -> Completions:
    return completions_of(model_of(site_of(families())))


def found_by_loop(asked: Completions, relations: list[int]) -> list[tuple[int, int, int]]:
    """All triples of a seen head and a seen tail that are no facts, the best first."""
    seen = {
        relation: [families().train[families().train[:, 1] == relation, side].unique().tolist() for side in (0, 2)]
        for relation in relations
    }
    triples = [(h, r, t) for r in relations for h, t in product(*seen[r]) if h != t]
    columns = torch.tensor(triples).unbind(1)
    score, known = asked.plain_scores(*columns).tolist(), asked.are_known(*columns).tolist()
    order = sorted(range(len(triples)), key=lambda place: -score[place])
    return [triples[place] for place in order if not known[place]]


def as_tuples(found: Discovered) -> list[tuple[int, ...]]:
    return [tuple(triple) for triple in found.triples.tolist()]


def test_the_best_pairs_are_found():
    asked = completions()
    found = discover(asked, [2, 5], LIMITS)
    assert as_tuples(found) == found_by_loop(asked, [2, 5])[:20]
    assert found.score.equal(found.score.sort(descending=True).values)
    sizes = [
        len(asked.slots.entities(asked.slots.head(r))) * len(asked.slots.entities(asked.slots.tail(r))) for r in (2, 5)
    ]
    assert (found.scored, found.pairs) == (sum(sizes), 2 * 128**2)


def test_limits_of_heads_and_relations_hold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("answers.discovery._MOST_HEADS", 7)
    asked = completions()
    expected, of_head, of_relation = [], {}, {}
    for head, relation, tail in found_by_loop(asked, [2, 5]):
        of_head[head, relation] = of_head.get((head, relation), 0) + 1
        if of_head[head, relation] <= 1:
            of_relation[relation] = of_relation.get(relation, 0) + 1
            if of_relation[relation] <= 4:
                expected.append((head, relation, tail))
    found = discover(asked, [2, 5], replace(LIMITS, per_head=1, per_relation=4))
    assert as_tuples(found) == expected[:20]
    assert len(expected) == 8


def test_a_sample_of_heads_depends_on_the_seed_alone():
    asked = completions()
    one, again, other = (discover(asked, [2], replace(LIMITS, heads=5, seed=seed)) for seed in (0, 0, 1))
    assert one.triples.equal(again.triples)
    assert not one.triples.equal(other.triples)
    assert len(one.triples[:, 0].unique()) <= 5
    assert one.scored == 5 * len(asked.slots.entities(asked.slots.tail(2)))


def test_entities_of_similar_slots_are_looked_at_too():
    # Films 0, 1, 2 have a cast (relation 1), and all but film 2 a director (relation 0).
    graph = graph_of([(0, 0, 5), (1, 0, 6), (0, 1, 7), (1, 1, 7), (2, 1, 8)], num_entities=9, num_relations=2)
    asked = completions_of(model_of(site_of(graph)), one_rank(), graph)
    heads = {
        overlap: set(discover(asked, [0], replace(LIMITS, overlap=overlap)).triples[:, 0].tolist())
        for overlap in (0.6, 0.7)
    }
    assert heads == {0.6: {0, 1, 2}, 0.7: {0, 1}}


@pytest.mark.parametrize(("only_missing", "missing"), [("heads", (0,)), ("tails", (2,)), ("both", (0, 2))])
def test_only_entities_without_a_fact_are_looked_at(only_missing: str, missing: tuple[int, ...]):
    asked, graph = completions(), families()
    facts = torch.cat([graph.train.long(), graph.valid, graph.test])
    # Every seen head and tail of the relation has a fact; those of similar places may have none.
    found = discover(asked, [2, 5], replace(LIMITS, overlap=0.3, count=100, only_missing=only_missing))
    assert found.scored < discover(asked, [2, 5], replace(LIMITS, overlap=0.3)).scored and len(found.triples)
    for triple in found.triples:
        of_relation = facts[facts[:, 1] == triple[1]]
        for side in missing:
            assert not (of_relation[:, side] == triple[side]).any()


def test_nothing_is_found_where_no_entity_lacks_a_fact():
    found = discover(completions(), [2], replace(LIMITS, only_missing="both"))
    assert (len(found.triples), found.scored) == (0, 0)


@pytest.mark.parametrize("side", [0, 2])
def test_of_a_relation_with_one_answer_a_known_one_is_told(side: int):
    train = [(h, 0, 20 + h % 2) if side == 2 else (20 + h % 2, 0, h) for h in range(10)] + [(0, 1, 9), (0, 1, 8)]
    graph = graph_of(train, num_entities=22, num_relations=2)
    asked = completions_of(model_of(site_of(graph)), graph=graph)
    query = torch.tensor([3, 0, ASKED] if side == 2 else [ASKED, 0, 3])
    count, unlikely = notes_of(asked, query, graph, RelationStatistics.of_facts(graph.known, 22))
    assert count == "1 known fact was left out; known=show shows them"
    assert unlikely.endswith("in train, and it is known here: others are unlikely")
    many = torch.tensor([0, 1, ASKED])
    assert notes_of(asked, many, graph, RelationStatistics.of_facts(graph.known, 22)) == [
        "2 known facts were left out; known=show shows them"
    ]
    assert notes_of(asked, torch.tensor([5, ASKED, 6]), graph, RelationStatistics.of_facts(graph.known, 22)) == []
