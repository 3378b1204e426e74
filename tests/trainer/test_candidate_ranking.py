"""Ranks among given candidates equal plain counting, and do not depend on the number of ranks."""

import pytest
import torch
from torch import Tensor

import trainer.candidate_ranking
import trainer.spread_scores
from embedding.model import KGEModel
from graph.errors import InputError
from graph.known import KnownTriples
from tests.ranks import run_on_ranks
from tests.worlds import distmult, families, model_of, one_rank, set_entities, site_of
from trainer.candidate_ranking import CandidateEvaluator
from trainer.runtime import Runtime
from trainer.spread_scores import score_triples

GRAPH = families()
TRIPLES = GRAPH.valid[:20]


def index(triples: Tensor) -> KnownTriples:
    return KnownTriples.of(triples, GRAPH.num_entities, GRAPH.num_relations)


def listed() -> Tensor:
    """Candidates of most queries, some of them facts and some equal to the answer; a few queries have none."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for number, (head, relation, tail) in enumerate(TRIPLES.tolist()):
        drawn = torch.randint(GRAPH.num_entities, (number % 7, 2), generator=generator).tolist()
        rows += [(h, relation, tail) for h, _ in drawn] + [(head, relation, t) for _, t in drawn]
        rows += [(head, relation, tail)] * (number % 2)
    return torch.cat([torch.tensor(rows), GRAPH.train[::10]])


def tied_model(runtime: Runtime | None = None, *, reciprocal: bool = False) -> KGEModel:
    model = model_of(site_of(GRAPH, runtime), dim=2, scoring=distmult, reciprocal=reciprocal)
    generator = torch.Generator().manual_seed(0)
    set_entities(model, torch.randint(1, 3, (GRAPH.num_entities, 2), generator=generator).double())
    with torch.no_grad():
        model.scorer.relation.copy_(torch.randint(-1, 2, model.scorer.relation.shape, generator=generator))
    return model


def evaluator(runtime: Runtime | None = None) -> CandidateEvaluator:
    known = index(torch.cat([GRAPH.train, GRAPH.valid]))
    return CandidateEvaluator(index(listed()), known, runtime or one_rank())


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_equals_plain_counting(block: int, reciprocal: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainer.candidate_ranking, "_BLOCK_PAIRS", block)
    monkeypatch.setattr(trainer.spread_scores, "_PAIRS", block)
    model = tied_model(reciprocal=reciprocal)
    facts = set(map(tuple, torch.cat([GRAPH.train, GRAPH.valid]).tolist()))
    rows = model.entity.gather_all(model.entity.weight).tolist()
    relations = model.scorer.relation.tolist()

    def score(head: int, relation: int, tail: int) -> float:
        row = relations[relation + GRAPH.num_relations * (reciprocal and side == "head")]
        return sum(h * r * t for h, r, t in zip(rows[head], row, rows[tail], strict=True))

    ranks: dict[str, list[float]] = {"head": [], "tail": []}
    sizes: dict[str, list[int]] = {"head": [], "tail": []}
    for head, relation, tail in TRIPLES.tolist():
        for side in ("head", "tail"):
            same = {
                (h, r, t)
                for h, r, t in listed().tolist()
                if r == relation and (t == tail if side == "head" else h == head)
            }
            candidates = same - facts
            sizes[side].append(len(candidates))
            if candidates:
                truth = score(head, relation, tail)
                others = [score(*each) for each in candidates]
                ranks[side].append(1 + sum(s > truth for s in others) + sum(s == truth for s in others) / 2)
    found = evaluator().evaluate(model, TRIPLES)
    for side, of_side in {**ranks, "both": ranks["head"] + ranks["tail"]}.items():
        count = sizes[side] if side in sizes else sizes["head"] + sizes["tail"]
        metrics = found[side]
        assert metrics["count"] == len(of_side) > 0
        assert metrics["unranked"] == count.count(0) > 0
        assert metrics["candidates"] == pytest.approx(sum(count) / len(of_side))
        assert metrics["candidate_mrr"] == pytest.approx(sum(1 / rank for rank in of_side) / len(of_side))
        assert metrics["candidate_mean_rank"] == pytest.approx(sum(of_side) / len(of_side))
        assert metrics["candidate_hits@1"] == pytest.approx(sum(rank <= 1 for rank in of_side) / len(of_side))
        assert not {"mrr", "hits@1", "mean_rank"} & set(metrics)
        assert metrics["candidate_tie_gap"] > 0


def test_without_candidates_nothing_is_ranked():
    empty = CandidateEvaluator(index(listed()[:0]), index(GRAPH.train), one_rank())
    assert empty.evaluate(tied_model(), TRIPLES)["both"] == {"candidates": 0.0, "count": 0, "unranked": 40}


def on_ranks(rank: int, world_size: int) -> tuple[dict[str, dict[str, float]], Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    model = tied_model(runtime)
    return evaluator(runtime).evaluate(model, TRIPLES), score_triples(model, runtime, TRIPLES)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds():
    metrics, scores = on_ranks(0, 1)
    for found, each in run_on_ranks(2, on_ranks):
        assert found == metrics
        assert each.equal(scores)


def test_reciprocal_scores_of_a_triple_are_the_mean_of_both_directions():
    model = tied_model(reciprocal=True)
    rows, relation = model.entity.gather_all(model.entity.weight), model.scorer.relation
    head, tail = rows[TRIPLES[:, 0]], rows[TRIPLES[:, 2]]
    both = [(head * relation[TRIPLES[:, 1] + shift] * tail).sum(1) for shift in (0, GRAPH.num_relations)]
    assert torch.allclose(score_triples(model, one_rank(), TRIPLES), (both[0] + both[1]).detach() / 2)
    assert not both[0].equal(both[1])


def test_a_model_that_has_diverged_is_refused():
    model = tied_model()
    model.entity.weight.fill_(torch.nan)
    with pytest.raises(InputError, match=r"the model 'discriminator' gives scores that are nan or infinite"):
        evaluator().evaluate(model, TRIPLES)
