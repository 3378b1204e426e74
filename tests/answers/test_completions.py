"""The best answers of queries are those that a plain loop over an export's .npy files finds."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from answers.best import Allowed, Best
from answers.completions import Completions
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from exporting.trained_model import TrainedModel
from graph.errors import InputError
from graph.known import KnownTriples
from graph.slots import Slots
from launch.built_run import Run
from launch.export import write_export
from tests.plain_scores import FORMULAS
from tests.ranks import run_on_ranks
from tests.trained import trained_model
from tests.worlds import context_of, distmult, families, graph_of, model_of, one_rank, set_entities, site_of, transe
from trainer.evaluate import RankingEvaluator
from trainer.runtime import Runtime

COUNT = 10
SCORINGS = {"transe": transe, "distmult": distmult, "complex": partial(ComplEx, precision="float32")}


def completions_of(model: KGEModel, runtime: Runtime | None = None, graph: Any = None) -> Completions:
    graph = graph or families()
    known = KnownTriples.of(torch.cat([graph.train, graph.valid, graph.test]), graph.num_entities, graph.num_relations)
    return Completions(model, known, Slots.of(context_of(graph).statistics), runtime or one_rank())


class Exported:
    """The scores of triples, computed with numpy from the files of an export."""

    kinds = ("entity", "relation")

    def __init__(self, name: str, run: Run, trained: TrainedModel, folder: Path) -> None:
        write_export(trained, folder, "npy")
        self.formula = FORMULAS[name]
        self.model = json.loads((folder / "model.json").read_text())
        self.tables = {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}
        self.model |= {part: table for part, table in self.tables.items() if part.partition("_")[0] not in self.kinds}
        self.relations = run.graph.num_relations

    def _parts(self, kind: str, number: int) -> dict[str, Any]:
        return {part: table[number] for part, table in self.tables.items() if part.partition("_")[0] == kind}

    def score(self, head: int, relation: int, tail: int, *, of_head: bool = False) -> float:
        if of_head and self.model["reciprocal"]:
            head, relation, tail = tail, relation + self.relations, head
        parts = (
            self._parts(kind, number)
            for kind, number in zip(("entity", "relation", "entity"), (head, relation, tail), strict=True)
        )
        return float(self.formula(*parts, self.model))


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", ["transe", "distmult", "complex", "rotate", "transd", "rescal"])
def test_are_those_of_a_loop_over_an_export(name: str, reciprocal: bool, tmp_path: Path):
    options = ["dtype=float64", f"discriminator.reciprocal={str(reciprocal).lower()}"]
    run, trained = trained_model(tmp_path, name, *options)
    (tmp_path / "out").mkdir()
    exported = Exported(name, run, trained, tmp_path / "out")
    completions = completions_of(run.discriminator, graph=run.graph)
    graph, facts = run.graph, set(map(tuple, torch.cat([run.graph.train, run.graph.valid, run.graph.test]).tolist()))
    triples = graph.test[:3]
    head, relation, tail = triples.unbind(1)
    entities, relations = range(graph.num_entities), range(graph.num_relations)

    def expect(best: Best, query: int, scores: dict[tuple[int, int, int], float], column: int) -> None:
        allowed = {triple: score for triple, score in scores.items() if triple not in facts}
        first = sorted(allowed, key=lambda triple: -allowed[triple])[:COUNT]
        assert best.answer[query].tolist() == [triple[column] for triple in first]
        assert best.score[query].tolist() == pytest.approx([allowed[triple] for triple in first], rel=1e-9, abs=1e-12)
        assert not best.known.any()

    tails = completions.tails(head, relation, count=COUNT)
    heads = completions.heads(relation, tail, count=COUNT)
    pairs = completions.relations(head, tail, count=COUNT)
    for query, (h, r, t) in enumerate(triples.tolist()):
        expect(tails, query, {(h, r, e): exported.score(h, r, e) for e in entities if e != h}, 2)
        expect(heads, query, {(e, r, t): exported.score(e, r, t, of_head=True) for e in entities if e != t}, 0)
        expect(pairs, query, {(h, p, t): exported.score(h, p, t) for p in relations}, 1)
    scored = completions.scores(triples)
    assert scored.score.tolist() == pytest.approx([exported.score(*triple) for triple in triples.tolist()], rel=1e-9)
    assert scored.known.all()
    as_heads = completions.plain_scores(head, relation, tail, as_heads=True)
    expected = [exported.score(*triple, of_head=True) for triple in triples.tolist()]
    assert as_heads.tolist() == pytest.approx(expected, rel=1e-9)


def test_ranks_of_triples_are_those_of_the_tables():
    model, triples = model_of(site_of(families())), families().test[:40]
    completions = completions_of(model)
    scored = completions.scores(triples)
    table = RankingEvaluator(completions.known, one_rank(), memory_mb=1).evaluate(model, triples)
    assert float((1 / scored.head_rank).mean()) == pytest.approx(table.head["mrr"])
    assert float((1 / scored.tail_rank).mean()) == pytest.approx(table.tail["mrr"])
    assert not completions.scores(torch.tensor([[0, 0, 0]])).known.any()


def test_known_facts_are_left_out_or_marked():
    completions, query = completions_of(model_of(site_of(families()))), families().train[:1].long()
    (h, r, t), everything = query.unbind(1), families().num_entities
    facts = {int(tail) for tail in completions.known.tails.answers(h, r)[1]}
    assert len(facts) >= 1
    without = completions.tails(h, r, count=everything)
    there = without.score[0].isfinite()
    assert set(without.answer[0, there].tolist()) == set(range(everything)) - facts - {int(h)}
    shown = completions.tails(h, r, count=everything, allowed=Allowed(known=True, loops=True))
    assert sorted(shown.answer[0].tolist()) == list(range(everything))
    assert set(shown.answer[0, shown.known[0]].tolist()) == facts
    pairs = completions.relations(h, t, count=99, allowed=Allowed(known=True))
    assert pairs.answer[0, pairs.known[0]].tolist() == [int(r)]
    assert int(r) not in completions.relations(h, t, count=99).answer[0, : families().num_relations - 1].tolist()


def test_an_entity_is_no_answer_to_itself_unless_wanted():
    model = model_of(site_of(families()))  # TransE, whose best tail of a short relation is the head
    with torch.no_grad():
        model.scorer.relation.zero_()
    head, relation = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    completions, loops = completions_of(model), Allowed(loops=True)
    assert completions.tails(head, relation, count=1, allowed=loops).answer[:, 0].equal(head)
    assert completions.heads(relation, head, count=1, allowed=loops).answer[:, 0].equal(head)
    for best in (completions.tails(head, relation, count=128), completions.heads(relation, head, count=128)):
        assert not (best.score.isfinite() & (best.answer == head[:, None])).any()
        assert (best.answer[:, -1] == 0).all()


def test_of_equal_scores_the_lower_id_comes_first():
    model = model_of(site_of(families()))
    set_entities(model, torch.ones(families().num_entities, 4, dtype=torch.float64))
    with torch.no_grad():
        model.scorer.relation.zero_()
    first, anything = torch.tensor([3]), Allowed(known=True)
    completions = completions_of(model)
    assert completions.tails(first, first, count=5, allowed=anything).answer.tolist() == [[0, 1, 2, 4, 5]]
    assert completions.relations(first, first, count=3, allowed=anything).answer.tolist() == [[0, 1, 2]]


def test_only_entities_that_train_has_in_the_slot_if_wanted():
    graph = graph_of([(0, 0, 1), (2, 0, 3), (2, 1, 5), (4, 1, 1)], num_entities=9, num_relations=3)
    completions, seen = completions_of(model_of(site_of(graph)), graph=graph), Allowed(unseen=False)
    zero, both = torch.tensor([0]), torch.tensor([0, 1])

    def found(best: Best) -> list[set[int]]:
        rows = zip(best.answer.tolist(), best.score.isfinite().tolist(), strict=True)
        return [{answer for answer, there in zip(*row, strict=True) if there} for row in rows]

    # Tails of relation 0 are 1 and 3, of relation 1 they are 5 and 1; (0, 0, 1) is known.
    assert found(completions.tails(torch.tensor([0, 6]), both, count=9, allowed=seen)) == [{3}, {5, 1}]
    assert found(completions.heads(both, torch.tensor([3, 8]), count=9, allowed=seen)) == [{0}, {2, 4}]
    assert found(completions.tails(zero, torch.tensor([2]), count=9, allowed=seen)) == [set()]  # it has no triples
    assert found(completions.relations(torch.tensor([2, 2]), torch.tensor([1, 8]), count=9, allowed=seen)) == [
        {0, 1},
        set(),
    ]


def test_without_queries_there_are_no_answers():
    none = torch.empty(0, dtype=torch.int64)
    completions = completions_of(model_of(site_of(families())))
    for allowed in (Allowed(), Allowed(unseen=False)):
        assert completions.tails(none, none, count=3, allowed=allowed).answer.shape == (0, 3)
    assert completions.relations(none, none, count=3).answer.shape == (0, 3)


def test_a_model_that_has_diverged_is_an_error():
    model = model_of(site_of(families()))
    with torch.no_grad():
        model.scorer.relation.fill_(torch.nan)
    completions, one = completions_of(model), torch.tensor([1])
    for ask in (completions.tails, completions.heads, completions.relations):
        with pytest.raises(InputError, match="the model 'discriminator' gives scores that are nan or infinite"):
            ask(one, one, count=3)


def answers_of_all(rank: int, world_size: int) -> list[Tensor]:
    """Answers of models of each kind in float32, of one full of ties, and of one with fewer entities than ranks."""
    runtime, graph = Runtime(rank, world_size, torch.device("cpu")), families()
    models = [
        model_of(site_of(graph, runtime, dtype=torch.float32), dim=6, scoring=scoring, reciprocal=reciprocal)
        for scoring in SCORINGS.values()
        for reciprocal in (False, True)
    ]
    tied = model_of(site_of(graph, runtime), dim=1)
    set_entities(tied, torch.arange(graph.num_entities, dtype=torch.float64).remainder(4)[:, None])
    found = []
    head, relation, tail = graph.test[:30].unbind(1)
    for model in [*models, tied]:
        completions = completions_of(model, runtime)
        for allowed in (Allowed(), Allowed(known=True, unseen=False)):
            best = completions.tails(head, relation, count=9, allowed=allowed)
            found += [best.answer, best.score, best.known]
            best = completions.heads(relation, tail, count=9, allowed=allowed)
            found += [best.answer, best.score, best.known]
        best, scored = completions.relations(head, tail, count=9), completions.scores(graph.test[:5])
        found += [best.answer, best.score, scored.score, scored.head_rank]
    tiny = graph_of([(0, 0, 1), (1, 1, 0)], num_entities=2, num_relations=2)
    few = completions_of(model_of(site_of(tiny, runtime)), runtime, tiny)
    return [*found, few.tails(torch.tensor([0]), torch.tensor([1]), count=9).answer]


@pytest.mark.slow
def test_answers_do_not_depend_on_the_number_of_ranks():
    alone = answers_of_all(0, 1)
    for found in run_on_ranks(3, answers_of_all):
        assert all(one.equal(other) for one, other in zip(alone, found, strict=True))
