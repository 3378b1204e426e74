"""Ranking on the pretended GPU, among as many entities as FB15k-237 has."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch

import kernels.library
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownFacts, KnownTriples, together
from tests.pretended_gpu.budgets import RANKING, complaint
from tests.pretended_gpu.drive import alone
from tests.pretended_gpu.pretending import pretended_gpu
from tests.worlds import graph_of, model_of, site_of, transe
from trainer.evaluate import RankingEvaluator
from trainer.runtime import Runtime

TRIPLES = 512
SCORINGS = {"ComplEx": partial(ComplEx, precision="float32"), "TransE L1": transe}


@cache
def large_graph() -> KnowledgeGraph:
    """14,541 entities, 237 relations, and queries of up to some hundred answers."""
    generator = torch.Generator().manual_seed(0)

    def triples(number: int) -> torch.Tensor:
        ids = (torch.rand((number, 3), generator=generator, dtype=torch.float64) ** 4).mul_(
            torch.tensor([14_541, 237, 14_541])
        )
        return ids.long()

    return replace(graph_of([], 14_541, 237), train=triples(20_000), valid=triples(TRIPLES))


def known(device: torch.device) -> KnownFacts:
    graph = large_graph()
    parts = (graph.train, torch.cat([graph.valid, graph.train[:50]]))  # some facts are known twice
    return together(*(KnownTriples.of(part.to(device), graph.num_entities, graph.num_relations) for part in parts))


def model_on(runtime: Runtime, name: str) -> KGEModel:
    site = site_of(large_graph(), runtime, dtype=torch.float32)
    return model_of(site, dim=4, scoring=SCORINGS[name.partition(",")[0]])


@pytest.mark.parametrize("name", RANKING)
def test_ranks_512_triples_within_its_budget_and_as_the_cpu(name, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    memory_mb = 8 if "blocks" in name else 256
    graph, cpu = large_graph(), alone("cpu")
    expected = RankingEvaluator(known(cpu.device), cpu, memory_mb=256).ranks(model_on(cpu, name), graph.valid)
    with pretended_gpu() as counts:
        gpu = alone("cuda")
        model, evaluator = model_on(gpu, name), RankingEvaluator(known(gpu.device), gpu, memory_mb=memory_mb)
        evaluator.ranks(model, graph.valid[:1])  # joins the known facts
        counts.clear()
        ranks = evaluator.ranks(model, graph.valid)
    for side in ("head", "tail"):
        assert getattr(ranks, side).equal(getattr(expected, side)), side
    said = complaint(counts, 1, RANKING[name], f"for {TRIPLES} triples")
    assert said is None, said


@pytest.mark.parametrize("memory_mb", [1, 256])
def test_scores_that_are_no_numbers_are_an_error(memory_mb: int):
    with pretended_gpu():
        gpu = alone("cuda")
        model = model_on(gpu, "TransE L1")
        model.entity.weight[14_000, 0] = torch.inf
        evaluator = RankingEvaluator(known(gpu.device), gpu, memory_mb=memory_mb)
        with pytest.raises(InputError, match="the model 'discriminator' gives scores that are nan or infinite"):
            evaluator.ranks(model, large_graph().valid[:3])
        assert evaluator.ranks(model, large_graph().valid[:0]).head.shape == (2, 0)
