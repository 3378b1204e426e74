from dataclasses import replace

import pytest
import torch

from generator.uniform import UniformSampler
from graph.batch import Batch, Negatives
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownTriples
from tests.worlds import context_of, families, model_of, no_opinion, one_rank, order_of, player_of, site_of
from trainer.diagnostics import Diagnostics


def diagnostics_of(graph: KnowledgeGraph, *, hidden: bool = True) -> Diagnostics:
    train, unseen, held_out = (
        KnownTriples.of(triples, graph.num_entities, graph.num_relations)
        for triples in (graph.train, graph.hidden, torch.cat([graph.valid, graph.test]))
    )
    return Diagnostics(one_rank(), train, unseen if hidden else None, held_out, log_digests=True, log_usage=False)


def step_of(chunk_size: int) -> tuple[Batch, Negatives]:
    sampler = UniformSampler(context_of(families()), num_negatives=50, mask_known=False, redraw_known=False)
    # The last batch of an epoch, part of which is filling.
    order = order_of(families(), sampler, batch_size=800, chunk_size=chunk_size)
    batch = order.batch(order.steps_per_epoch - 1)
    return batch, sampler.propose(batch, no_opinion)


def share(batch: Batch, negatives: Negatives, facts: set[tuple[int, ...]]) -> float:
    """The share of each positive's 1st, 5th, 9th ... of 50 negatives that are facts, one by one."""
    found = count = 0
    for row in range(len(batch.head)):
        if batch.weight[row] == 0:
            continue
        head, relation, tail = int(batch.head[row]), int(batch.relation[row]), int(batch.tail[row])
        for entity in negatives.entity[row // batch.chunk_size, ::4].tolist():
            found += ((entity, relation, tail) if row < batch.head_rows else (head, relation, entity)) in facts
            count += 1
    return found / count


@pytest.mark.parametrize("chunk_size", [1, 8])
def test_rates_of_true_facts_are_those_of_counting(chunk_size: int):
    graph = families()
    batch, negatives = step_of(chunk_size)
    assert chunk_size == 1 or (batch.weight == 0).any()
    verdict = player_of(model_of(site_of(graph))).judge(batch, negatives)
    feedback = {"generator/entropy": torch.arange(len(batch.head), dtype=torch.float64)}
    means = diagnostics_of(graph).means(batch, negatives, verdict, feedback)
    held_out = torch.cat([graph.valid, graph.test])
    for name, triples in (("known_true", graph.train), ("hidden_true", graph.hidden), ("held_out_true", held_out)):
        expected = share(batch, negatives, set(map(tuple, triples.tolist())))
        assert expected > 0
        assert means[f"negatives/{name}"] == pytest.approx(expected, rel=1e-12)
    counted = batch.weight > 0
    assert means["train/positive_score"] == pytest.approx(float(verdict.positive[counted].mean()))
    assert means["train/negative_score"] == pytest.approx(float(verdict.negative[counted].mean()))
    assert means["generator/entropy"] == pytest.approx(float(feedback["generator/entropy"][counted].mean()))


def test_hidden_facts_are_not_reported_where_none_are_known():
    graph = families()
    batch, negatives = step_of(1)
    verdict = player_of(model_of(site_of(graph))).judge(batch, negatives)
    assert "negatives/hidden_true" not in diagnostics_of(graph, hidden=False).means(batch, negatives, verdict, {})


def test_digests_change_with_what_they_stand_for():
    batch, negatives = step_of(8)
    negatives = replace(negatives, pool=negatives.entity.flip(1))
    diagnostics = diagnostics_of(families())
    before = diagnostics.digests(batch, negatives)
    assert before == diagnostics.digests(batch, negatives)
    assert set(before) == {"digest/triples", "digest/negatives", "digest/pools"}
    swapped = negatives.entity.clone()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    assert swapped[0, 0] != swapped[0, 1]
    for key, changed in {
        "digest/triples": (replace(batch, tail=batch.tail.roll(1)), negatives),
        "digest/negatives": (batch, replace(negatives, entity=swapped)),
        "digest/pools": (batch, replace(negatives, pool=swapped.flip(1))),
    }.items():
        after = diagnostics.digests(*changed)
        assert {name for name in before if before[name] != after[name]} == {key}


def test_digests_do_not_depend_on_the_split():
    batch, negatives = step_of(8)
    diagnostics = diagnostics_of(families())
    whole = int(diagnostics.digests(batch, negatives)["digest/negatives"], 16)
    parts = [
        diagnostics.digests(batch.chunks(start, stop), replace(negatives, entity=negatives.entity[start:stop]))
        for start, stop in ((0, 7), (7, 7), (7, len(batch.chunk)))
    ]
    assert sum(int(part["digest/negatives"], 16) for part in parts) % 2**64 == whole
