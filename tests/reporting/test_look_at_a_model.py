"""What a page shows of a trained model: its hardest negatives and a map of its entities, with names of any kind."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from embedding.model import KGEModel
from graph.knowledge_graph import KnowledgeGraph
from launch.built_run import Run
from launch.hardest import HardestNegatives
from reporting.entity_map import draw_map
from reporting.hard_negatives import HardNegative
from reporting.page import Heading
from reporting.run_page import Findings, as_page, read_record
from tests.pages import Page
from tests.worlds import distmult, families, graph_of, model_of, one_rank, set_entities, site_of

HOSTILE = """</svg></td><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;$_"""


def model_for(graph: KnowledgeGraph) -> KGEModel:
    return model_of(site_of(graph), dim=6, scoring=distmult)


def run_of(model: KGEModel, graph: KnowledgeGraph) -> Run:
    return Run(OmegaConf.create({}), one_rank(), graph, model)


def hardest_negatives(model: KGEModel, graph: KnowledgeGraph) -> list[HardNegative]:
    run = run_of(model, graph)
    return HardestNegatives.of(run, run.all_known, marked=("hidden",)).find()


def test_hardest_negatives_are_the_best_scored_of_all_unknown_entities():
    graph = families()
    model = model_for(graph)
    found = hardest_negatives(model, graph)
    assert len(found) == 36
    facts = set(map(tuple, torch.cat([graph.train, graph.valid, graph.test]).tolist()))
    hidden = set(map(tuple, graph.hidden.tolist()))
    entity = {name: number for number, name in enumerate(graph.entity_names)}
    relation = {name: number for number, name in enumerate(graph.relation_names)}
    rows = model.entity.weight[model.entity.row_of_entity]
    for place in (0, 15, 18, 33):  # two with their head asked for, two with their tail
        head, name, tail = found[place].query.strip("()").split(", ")
        asks_head = head == "?"
        kept, number = entity[tail if asks_head else head], relation[name]
        triples = [(each, number, kept) if asks_head else (kept, number, each) for each in range(graph.num_entities)]
        score = rows @ (rows[kept] * model.scorer.relation[number])
        score[[triple in facts or triple[0] == triple[2] for triple in triples]] = -torch.inf
        best = score.topk(3)
        assert [graph.entity_names[each] for each in best.indices.tolist()] == [
            each.negative for each in found[place : place + 3]
        ]
        assert [each.negative_score for each in found[place : place + 3]] == pytest.approx(best.values.tolist())
        assert [each.is_hidden_fact for each in found[place : place + 3]] == [
            triples[each] in hidden for each in best.indices.tolist()
        ]


def test_the_map_shows_the_directions_in_which_entities_differ_most():
    # 0 is head of r0 twice and tail of r1 once; 5 is in no triple of train.
    graph = graph_of([(0, 0, 1), (0, 0, 2), (3, 1, 0), (3, 1, 4)], num_entities=6, num_relations=2)
    model = model_of(site_of(graph), dim=4)
    line = torch.zeros((6, 4), dtype=torch.float64)
    line[:, 2] = torch.tensor([0.0, 1, 2, 3, 4, 100])  # entity 5 would dominate
    line[:, 0] = torch.tensor([0.1, -0.1, 0, 0.1, -0.1, 0])
    set_entities(model, line)
    plot = draw_map(model, graph)
    assert plot is not None
    assert plot.alt == (
        "Principal components of 5 entities: 2 are most often tail of r0, 1 are most often head of r0, "
        "1 are most often head of r1, 1 are most often tail of r1."
    )
    assert "(100% of the variance)" in plot.svg  # to the percent
    assert draw_map(model, graph) == plot


def test_hostile_names_are_text_in_tables_and_plots(tmp_path: Path):
    graph = families()
    names = [f"{number}{HOSTILE}" for number in range(graph.num_entities)]
    graph = replace(graph, name=HOSTILE, entity_names=names, relation_names=[HOSTILE] * graph.num_relations)
    model = model_for(graph)
    negatives = hardest_negatives(model, graph)
    findings = Findings(graph.summary(), None, negatives, draw_map(model, graph))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "stage": "training", "loss": 1.0}')
    page = Page(as_page(Heading(HOSTILE, {}, HOSTILE), read_record(tmp_path), HOSTILE, findings))
    page.check()
    assert page.tables["Hardest negatives"][1][3].partition(HOSTILE)[1]
    assert page.text.count(HOSTILE) > 50
