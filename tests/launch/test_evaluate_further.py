"""evaluate.py: ranks among candidates, and triple classification."""

import json
from pathlib import Path

import pytest
import torch

from graph.knowledge_graph import KnowledgeGraph
from graph.synthetic import family_graph
from launch import evaluate

# That of the `finished` run: TINY people, and the shares of conf/graph/synthetic.yaml.
GRAPH: KnowledgeGraph = family_graph(num_people=100, hidden_share=0.05, valid_share=0.05, test_share=0.05, seed=0)


def write(path: Path, triples: torch.Tensor) -> Path:
    names = GRAPH.entity_names, GRAPH.relation_names
    path.write_text("".join(f"{names[0][h]}\t{names[1][r]}\t{names[0][t]}\n" for h, r, t in triples.tolist()))
    return path


def wrong(triples: torch.Tensor, shift: int) -> torch.Tensor:
    """Other tails; some of them may be facts."""
    return torch.stack([triples[:, 0], triples[:, 1], (triples[:, 2] + shift) % GRAPH.num_entities], 1)


def result(command, finished, tmp_path, *words: str) -> tuple[dict, str]:
    outcome = command(evaluate, f"run={finished}", f"out={tmp_path}/found.json", *words)
    assert outcome.code == 0, outcome.errors
    return json.loads((tmp_path / "found.json").read_text()), outcome.output


def test_all_entities_as_candidates_give_the_full_rank(command, finished, tmp_path):
    every = torch.cat([wrong(GRAPH.test, shift) for shift in range(GRAPH.num_entities)])
    file = write(tmp_path / "every.tsv", every)
    found, output = result(command, finished, tmp_path, f"candidates={file}")
    full = json.loads((finished / "result.json").read_text())["test"]["tail"]
    tail = found["test_candidates"]["tail"]
    assert {f"candidate_{name}": value for name, value in full.items() if name != "count"} == pytest.approx(
        {name: value for name, value in tail.items() if name.startswith("candidate_")}
    )
    assert "test" not in found
    assert (found["filter"], found["candidates"]) == ("train+valid+test", str(file))
    assert "candidate_mrr" in output


def test_estimated_ranks_are_exact_if_all_entities_are_drawn(command, finished, tmp_path):
    found, output = result(command, finished, tmp_path, "task=estimated_ranking", f"drawn={GRAPH.num_entities}")
    full = json.loads((finished / "result.json").read_text())["test"]["both"]
    estimated = found["test_estimated"]["both"]
    assert estimated.pop("count") == full["count"]
    assert estimated == pytest.approx({name: full[name.removeprefix("estimated_")] for name in estimated})
    assert "estimated_mrr" in output and "filtered by: train+valid+test" in output
    few, _ = result(command, finished, tmp_path, "task=estimated_ranking", "likely=0", "drawn=10")
    assert few["test_estimated"]["both"]["estimated_mrr"] > estimated["estimated_mrr"]


def test_classification_with_corruptions_and_with_files(command, finished, tmp_path):
    found, output = result(command, finished, tmp_path, "task=classification")
    metrics = found["test_classification"]
    assert metrics["true"] == metrics["false"] == len(GRAPH.test)
    assert metrics["accuracy"] > 0.5
    assert "test: one corruption of each triple, with seed 0, which is no fact of train+valid+test" in output
    assert "valid: one corruption of each triple, with seed 0, which is no fact of train+valid\n" in output
    assert set(found["thresholds"]["by_relation"]) <= set(GRAPH.relation_names)
    other, _ = result(command, finished, tmp_path, "task=classification", "seed=1")
    assert other["test_classification"] != metrics
    files = []
    for split in ("valid", "test"):
        false = torch.cat([wrong(getattr(GRAPH, split), 5), GRAPH.train[:2]])
        files.append(f"{split}_negatives={write(tmp_path / f'{split}.tsv', false)}")
    found, output = result(command, finished, tmp_path, "task=classification", *files)
    assert found["test_classification"]["false"] == len(GRAPH.test) + 2
    facts = set(map(tuple, torch.cat([GRAPH.train, GRAPH.valid, GRAPH.test]).tolist()))
    among = 2 + sum(row in facts for row in map(tuple, wrong(GRAPH.test, 5).tolist()))
    assert f"test_negatives: {among} of {len(GRAPH.test) + 2} are facts of the graph, but count as false" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=typo"], "task must be one of ranking, estimated_ranking, classification, got 'typo'"),
        (["candidates=none.tsv"], "candidates must name a file of triples, {}/none.tsv is missing"),
        (["candidates=wrong.tsv"], "candidates: {}/wrong.tsv, line 1: the head 'x' is no entity of the graph"),
        (["task=classification", "candidates=wrong.tsv"], "candidates has no effect with task=classification, got {}/"),
        (["test_negatives=wrong.tsv"], "test_negatives has no effect with task=ranking, got {}/wrong.tsv"),
        (["task=estimated_ranking", "likely=-1"], "likely must be at least 0, got -1"),
        (["task=estimated_ranking", "drawn=0"], "drawn must be at least 1, got 0"),
        (["task=classification", "split=valid"], "split must be test with task=classification, whose thresholds are "),
        (["task=classification", "valid_negatives=wrong.tsv"], "valid_negatives: {}/wrong.tsv, line 1: the head 'x' "),
    ],
)
def test_one_line_says_what_is_wrong(words, message, command, finished, tmp_path):
    (tmp_path / "wrong.tsv").write_text("x\tparent_of\tperson_01\n")
    outcome = command(evaluate, f"run={finished}", *words)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert message.format(tmp_path) in outcome.errors
