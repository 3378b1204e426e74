import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import trainer.evaluate
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from embedding.scoring.rotate import RotatE
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownTriples
from kernels.ranks import RankCounts, count_ranks
from tests.ranks import run_on_ranks
from tests.worlds import distmult, families, graph_of, model_of, one_rank, set_entities, site_of, transe
from trainer.evaluate import RankingEvaluator, RankingMetrics
from trainer.runtime import Runtime

SCORINGS = {"transe": transe, "distmult": distmult, "complex": partial(ComplEx, precision="float32"), "rotate": RotatE}
TINY = replace(
    graph_of([(0, 0, 1), (1, 1, 0)], num_entities=2, num_relations=2),
    valid=torch.tensor([(0, 1, 1), (0, 0, 0)]),
)


def evaluator_of(graph: KnowledgeGraph, runtime: Runtime | None = None) -> RankingEvaluator:
    known = KnownTriples.of(torch.cat([graph.train, graph.valid]), graph.num_entities, graph.num_relations)
    return RankingEvaluator(known, runtime or one_rank(), memory_mb=1)


def tied_model(graph: KnowledgeGraph, values: int = 3, seed: int = 0, *, reciprocal: bool = False) -> KGEModel:
    """Rows of small whole numbers, many of them twice: scores are exact and often equal."""
    model = model_of(site_of(graph), dim=2, reciprocal=reciprocal)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(values, (graph.num_entities, 2), generator=generator).double()
    set_entities(model, rows)
    with torch.no_grad():
        model.scorer.relation.copy_(torch.randint(-1, 2, model.scorer.relation.shape, generator=generator))
    return model


def slow_ranks(model: KGEModel, graph: KnowledgeGraph, triples: Tensor) -> dict[str, list[tuple[int, int]]]:
    """(best, worst) rank by plain counting, for each side."""
    facts = set(map(tuple, torch.cat([graph.train, graph.valid]).tolist()))
    rows = model.entity.weight.tolist()
    place = model.entity.row_of_entity.tolist()
    relations = model.scorer.relation.tolist()

    def score(head: int, relation: int, tail: int) -> float:
        if model.reciprocal and side == "head":
            head, relation, tail = tail, relation + graph.num_relations, head
        parts = zip(rows[place[head]], relations[relation], rows[place[tail]], strict=True)
        return -sum(abs(h + r - t) for h, r, t in parts)

    ranks: dict[str, list[tuple[int, int]]] = {"head": [], "tail": []}
    for head, relation, tail in triples.tolist():
        for side, answer in (("head", head), ("tail", tail)):
            better = equal = 0
            for entity in range(graph.num_entities):
                other = (entity, relation, tail) if side == "head" else (head, relation, entity)
                if entity == answer or other in facts:
                    continue
                better += score(*other) > score(head, relation, tail)
                equal += score(*other) == score(head, relation, tail)
            ranks[side].append((1 + better, 1 + better + equal))
    return ranks


def slow_summary(ranks: list[tuple[int, int]]) -> dict[str, float]:
    middle = [(best + worst) / 2 for best, worst in ranks]

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    optimistic, pessimistic = (mean([1 / pair[end] for pair in ranks]) for end in (0, 1))
    return {
        "mrr": mean([1 / rank for rank in middle]),
        "mean_rank": mean(middle),
        **{f"hits@{k}": mean([float(rank <= k) for rank in middle]) for k in (1, 3, 10)},
        "mrr_optimistic": optimistic,
        "mrr_pessimistic": pessimistic,
        "tie_gap": optimistic - pessimistic,
        "count": len(ranks),
    }


@pytest.mark.parametrize("block_rows", [7, 128, 4096])
@pytest.mark.parametrize("queries", [1, 5, 1024])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_equals_plain_counting(block_rows: int, queries: int, reciprocal: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainer.evaluate, "_BLOCK_ROWS", block_rows)
    monkeypatch.setattr(trainer.evaluate, "_MOST_QUERIES", queries)
    graph, triples = families(), families().valid[:24]
    model = tied_model(graph, reciprocal=reciprocal)
    slow = slow_ranks(model, graph, triples)
    found = evaluator_of(graph).evaluate(model, triples).as_dict()
    for side, ranks in {**slow, "both": slow["head"] + slow["tail"]}.items():
        assert found[side] == pytest.approx(slow_summary(ranks), rel=1e-12)
        assert found[side]["mrr_optimistic"] > found[side]["mrr"] > found[side]["mrr_pessimistic"]
    assert found["head"] != found["tail"]


def test_ranks_are_in_the_order_of_the_triples():
    graph = families()
    model, triples = tied_model(graph), graph.valid[:12].flip(0)
    slow = slow_ranks(model, graph, triples)
    ranks = evaluator_of(graph).ranks(model, triples)
    assert [*map(tuple, ranks.head.T.tolist())] == slow["head"]
    assert [*map(tuple, ranks.tail.T.tolist())] == slow["tail"]
    assert ranks.realistic("tail").tolist() == [sum(bounds) / 2 for bounds in slow["tail"]]


def test_triples_that_the_filter_does_not_know_are_ranked_too():
    graph = families()
    model, triples = tied_model(graph, values=9), graph.test[:10]
    slow = slow_ranks(model, graph, triples)
    found = evaluator_of(graph).evaluate(model, triples)
    assert found.tail == pytest.approx(slow_summary(slow["tail"]), rel=1e-12)


def test_a_collapsed_model_shows():
    graph = families()
    model = model_of(site_of(graph))
    set_entities(model, torch.ones(graph.num_entities, 4, dtype=torch.float64))
    metrics = evaluator_of(graph).evaluate(model, graph.valid).both
    assert metrics["mrr_optimistic"] == 1
    assert metrics["mrr"] < 0.05
    assert metrics["hits@1"] == 0
    assert metrics["tie_gap"] > 0.9


def test_a_model_without_ties_has_no_gap():
    metrics = evaluator_of(families()).evaluate(model_of(site_of(families())), families().valid).both
    assert metrics["tie_gap"] == 0
    assert metrics["mrr_optimistic"] == metrics["mrr"] == metrics["mrr_pessimistic"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(value: float):
    model = model_of(site_of(families()))
    with torch.no_grad():
        model.entity.weight[5, 0] = value
    with pytest.raises(InputError, match="the model 'discriminator' gives scores that are nan or infinite"):
        evaluator_of(families()).evaluate(model, families().valid[:3])


def test_scores_stay_within_the_memory(monkeypatch: pytest.MonkeyPatch):
    graph = graph_of([(0, 0, 1)] * 600, num_entities=60_000, num_relations=1)
    model = model_of(site_of(graph, dtype=torch.float32), dim=1)
    sizes = []

    def watched(counts: RankCounts, scores: Tensor, *arguments: Any) -> None:
        sizes.append(scores.numel() * 4)
        count_ranks(counts, scores, *arguments)

    monkeypatch.setattr(trainer.evaluate, "count_ranks", watched)
    evaluator_of(graph).evaluate(model, graph.train.long())
    assert 900_000 < max(sizes) <= 1_000_000
    assert len(sizes) == 2 * -(-600 // 244) * -(-60_000 // 1024)


def test_memory_must_be_positive():
    with pytest.raises(InputError, match=r"trainer.evaluation_memory_mb must be at least 1, got 0"):
        RankingEvaluator(KnownTriples.of(families().train, 128, 20), one_rank(), memory_mb=0)


def metrics_of_many(rank: int, world_size: int) -> list[RankingMetrics]:
    """Random float32 models of each kind, one full of ties, and a graph smaller than the number of ranks."""
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    graph = families()
    models = [
        model_of(site_of(graph, runtime, dtype=torch.float32), dim=6, scoring=scoring) for scoring in SCORINGS.values()
    ]
    tied = model_of(site_of(graph, runtime), dim=1)
    set_entities(tied, torch.arange(graph.num_entities, dtype=torch.float64).remainder(4)[:, None])
    found = [evaluator_of(graph, runtime).evaluate(model, graph.valid) for model in (*models, tied)]
    tiny = model_of(site_of(TINY, runtime))
    return [*found, evaluator_of(TINY, runtime).evaluate(tiny, TINY.valid)]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_metrics_are_equal_at_every_number_of_ranks(world_size: int):
    alone = metrics_of_many(0, 1)
    assert alone[-2].both["tie_gap"] > 0.01
    assert alone[-1].both["count"] == 4
    for found in run_on_ranks(world_size, metrics_of_many):
        assert found == alone
