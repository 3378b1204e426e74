"""Estimated ranks: exact with all entities, equal to plain counting with some, right on average, equal on all ranks."""

import pytest
import torch

from embedding.model import KGEModel
from graph.errors import InputError
from graph.known import KnownTriples
from graph.slots import Slots
from graph.statistics import RelationStatistics
from tests.ranks import run_on_ranks
from tests.worlds import distmult, families, model_of, one_rank, set_entities, site_of
from trainer.estimated_ranking import EstimatedEvaluator
from trainer.evaluate import RankingEvaluator
from trainer.runtime import Runtime
from trainer.slot_candidates import SlotCandidates

GRAPH = families()
TRIPLES = GRAPH.valid[:30]
SLOTS = Slots.of(RelationStatistics.of(GRAPH.train, GRAPH.num_entities, GRAPH.num_relations))
FACTS = torch.cat([GRAPH.train, GRAPH.valid])
KNOWN = KnownTriples.of(FACTS, GRAPH.num_entities, GRAPH.num_relations)


def tied_model(runtime: Runtime | None = None, *, reciprocal: bool = False) -> KGEModel:
    model = model_of(site_of(GRAPH, runtime), dim=2, scoring=distmult, reciprocal=reciprocal)
    generator = torch.Generator().manual_seed(0)
    set_entities(model, torch.randint(1, 4, (GRAPH.num_entities, 2), generator=generator).double())
    with torch.no_grad():
        model.scorer.relation.copy_(torch.randint(-1, 2, model.scorer.relation.shape, generator=generator))
    return model


def evaluator(likely: int, drawn: int, seed: int = 0, runtime: Runtime | None = None) -> EstimatedEvaluator:
    return EstimatedEvaluator(KNOWN, SlotCandidates(SLOTS, likely, drawn, seed), runtime or one_rank())


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("likely", "drawn"), [(0, GRAPH.num_entities), (5, GRAPH.num_entities)])
def test_all_entities_give_the_exact_ranks(likely: int, drawn: int, reciprocal: bool):
    model = tied_model(reciprocal=reciprocal)
    exact = RankingEvaluator(KNOWN, one_rank(), memory_mb=64).ranks(model, TRIPLES)
    for side in ("head", "tail"):
        found = evaluator(likely, drawn).ranks(model, TRIPLES, side)
        assert torch.allclose(found, exact.realistic(side))


@pytest.mark.parametrize(("likely", "drawn"), [(20, 10), (0, 15), (8, 1)])
def test_equals_plain_counting(likely: int, drawn: int):
    model, facts = tied_model(), set(map(tuple, FACTS.tolist()))
    rows = model.entity.gather_all(model.entity.weight).tolist()
    relations = model.scorer.relation.tolist()
    of_side = evaluator(likely, drawn)
    for side, slot in (("head", SLOTS.head), ("tail", SLOTS.tail)):
        found = of_side.ranks(model, TRIPLES, side).tolist()
        for (head, relation, tail), rank in zip(TRIPLES.tolist(), found, strict=True):
            chosen = of_side.candidates.of(slot(relation))
            entities = range(GRAPH.num_entities)
            triples = {e: (e, relation, tail) if side == "head" else (head, relation, e) for e in entities}
            unknown = {e for e, triple in triples.items() if triple not in facts}
            score = {
                e: sum(h * r * t for h, r, t in zip(rows[h_], relations[relation], rows[t_], strict=True))
                for e, (h_, _, t_) in triples.items()
            }
            truth = score[head if side == "head" else tail]

            def above(part: torch.Tensor, score=score, truth=truth, unknown=unknown) -> tuple[float, int]:
                kept = [score[e] for e in part.tolist() if e in unknown]
                return sum((s > truth) + (s == truth) / 2 for s in kept), len(kept)

            (sure, _), (sampled, kept) = above(chosen.sure), above(chosen.drawn)
            others = len(unknown - set(chosen.sure.tolist()))
            assert rank == pytest.approx(1 + sure + sampled * others / max(kept, 1))


def test_candidates_are_distinct_and_stand_for_all():
    for slot in range(2 * GRAPH.num_relations):
        chosen = SlotCandidates(SLOTS, 20, 10, 0).of(slot)
        both = torch.cat([chosen.sure, chosen.drawn])
        assert len(both.unique()) == len(both)
        assert chosen.others == GRAPH.num_entities - len(chosen.sure)
        assert chosen.sure.tolist() == sorted(SLOTS.likely(slot, 20).tolist())


def test_the_mean_rank_is_right_on_average():
    model = tied_model()
    exact = RankingEvaluator(KNOWN, one_rank(), memory_mb=64).evaluate(model, TRIPLES).both["mean_rank"]
    found = [evaluator(10, 20, seed).evaluate(model, TRIPLES)["both"]["estimated_mean_rank"] for seed in range(30)]
    spread = torch.tensor(found).double()
    assert abs(float(spread.mean()) - exact) < 4 * float(spread.std()) / len(found) ** 0.5
    assert float(spread.std()) > 0


def test_metrics_have_names_of_their_own():
    metrics = evaluator(10, 20).evaluate(tied_model(), TRIPLES)
    assert metrics["both"]["count"] == 2 * len(TRIPLES)
    assert {name for name in metrics["head"] if not name.startswith("estimated_")} == {"count"}
    assert evaluator(10, 20).evaluate(tied_model(), TRIPLES[:0])["both"] == {"count": 0}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_model_that_has_diverged_is_an_error(wrong: float):
    model = tied_model()
    model.entity.weight[:, 0] = wrong
    with pytest.raises(InputError, match="gives scores that are nan or infinite"):
        evaluator(10, 20).evaluate(model, TRIPLES)


def on_ranks(rank: int, world_size: int) -> dict[str, dict[str, float | int]]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    return evaluator(10, 20, runtime=runtime).evaluate(tied_model(runtime), TRIPLES)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds():
    assert run_on_ranks(2, on_ranks) == [on_ranks(0, 1)] * 2
