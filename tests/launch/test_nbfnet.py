"""Runs of a model without entity vectors: resumed, ranked, asked, on a graph of other entities, and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import advkge
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.same_relations import with_relations_of
from graph.synthetic import family_graph
from launch import evaluate, export, predict, report, similar, train
from tests.launch.conftest import ROOT

OPTIONS = [
    "discriminator=nbfnet",
    "graph.num_people=100",
    "discriminator.dim=8",
    "discriminator.scoring.layers=2",
    "generator.num_negatives=32",
    "optimizer.lr=0.01",
    "trainer.batch_size=128",
    "trainer.valid_every=0",
    "launch.device=cpu",
]


@pytest.fixture(scope="module")
def run(shell, tmp_path_factory) -> Path:
    """The folder of a run of 3 epochs."""
    folder = tmp_path_factory.mktemp("nbfnet") / "run"
    options = [*OPTIONS, "trainer.epochs=3", "schedule=constant", f"hydra.run.dir={folder}"]
    outcome = shell([ROOT / "launch/train.py", *options], folder=folder.parent)
    assert outcome.code == 0, outcome.errors
    return folder


def dense_of(run: Path) -> dict[str, torch.Tensor]:
    checkpoints = run / "checkpoints"
    latest = json.loads((checkpoints / "latest.json").read_text())["checkpoint"]
    return load_file(checkpoints / latest / "dense.safetensors")


def other_families() -> KnowledgeGraph:
    return family_graph(num_people=120, hidden_share=0.0, valid_share=0.05, test_share=0.1, seed=7)


def write(graph: KnowledgeGraph, folder: Path, rename: Callable[[str], str] = lambda relation: relation) -> Path:
    """The graph as text files, the last train triple first, so that relations have other numbers; new entity names."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        lines = [
            f"new {graph.entity_names[h]}\t{rename(graph.relation_names[r])}\tnew {graph.entity_names[t]}\n"
            for h, r, t in getattr(graph, split).flip(0).tolist()
        ]
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@pytest.mark.slow
def test_a_run_is_resumed_as_if_unbroken_and_ranked_again(run: Path, command):
    options = [*OPTIONS, "schedule=constant"]
    assert command(train, *options, "trainer.epochs=1", "hydra.run.dir=resumed").code == 0
    assert (resumed := command(train, "resume=resumed", "trainer.epochs=3")).code == 0, resumed.errors
    for key, value in dense_of(run).items():
        torch.testing.assert_close(dense_of(Path("resumed"))[key], value, rtol=1e-6, atol=1e-9, msg=key)
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["both"]["mrr"] > 0.3
    assert result["entity_numbers"] == 0
    assert command(evaluate, f"run={run}", "split=test", "out=test.json").code == 0
    assert json.loads(Path("test.json").read_text())["test"] == result["test"]


@pytest.mark.slow
def test_a_run_that_goes_on_from_some_entities_is_resumed_and_answers_for_others(command, tmp_path: Path):
    options = [*OPTIONS, "discriminator.scoring.most_edges=40", "schedule=constant"]
    assert command(train, *options, "trainer.epochs=1", "hydra.run.dir=resumed").code == 0
    assert command(train, "resume=resumed", "trainer.epochs=2").code == 0
    assert command(train, *options, "trainer.epochs=2", "hydra.run.dir=whole").code == 0
    for key, value in dense_of(Path("whole")).items():
        torch.testing.assert_close(dense_of(Path("resumed"))[key], value, rtol=1e-6, atol=1e-9, msg=key)
    write(other_families(), tmp_path / "other")
    done = command(evaluate, "run=whole", f"other_graph={tmp_path / 'other'}", "out=other.json")
    assert done.code == 0, done.errors
    assert json.loads(Path("other.json").read_text())["test"]["both"]["mrr"] > 0.2


@pytest.mark.slow
def test_a_run_of_two_ranks_ends_as_one(run: Path, shell, tmp_path: Path):
    options = [*OPTIONS, "trainer.epochs=3", "schedule=constant", "launch.ranks=2", "hydra.run.dir=two"]
    outcome = shell([ROOT / "launch/train.py", *options], folder=tmp_path)
    assert outcome.code == 0, outcome.errors
    mrr = [json.loads((each / "result.json").read_text())["test"]["both"]["mrr"] for each in (run, tmp_path / "two")]
    assert mrr[1] == pytest.approx(mrr[0], abs=0.01)


def test_a_graph_of_other_entities_is_ranked_and_asked(run: Path, command, tmp_path: Path):
    folder = write(other_families(), tmp_path / "other")
    done = command(evaluate, f"run={run}", "other_graph=other", "out=other.json")
    assert done.code == 0, done.errors
    metrics = json.loads(Path("other.json").read_text())["test"]["both"]
    assert metrics["count"] == 2 * len(other_families().test)
    assert metrics["mrr"] > 0.3  # a model that knows nothing has about .04

    model = advkge.load(run, other_graph=folder)
    head, relation, tail = (folder / "train.txt").read_text().splitlines()[0].split("\t")
    answers = model.tails(head, relation, k=5, known=True)
    assert tail in [answer.name for answer in answers]
    assert all(answer.name.startswith("new ") for answer in answers)
    asked = command(predict, f"run={run}", "other_graph=other", f"head={head}", f"relation={relation}", "known=show")
    assert asked.code == 0, asked.errors
    assert answers[0].name in asked.output.splitlines()[1]


def test_relations_get_the_numbers_of_the_other_graph():
    graph = family_graph(num_people=100, hidden_share=0.0, valid_share=0.1, test_share=0.0, seed=0)
    other = other_families()
    mixed = KnowledgeGraph("mixed", graph.entity_names, sorted(graph.relation_names), *[graph.train[:50].long()] * 3)
    found = with_relations_of(mixed, other)
    assert found.relation_names == other.relation_names
    names = [[of.relation_names[int(number)] for number in of.valid[:, 1]] for of in (mixed, found)]
    assert names[0] == names[1]
    assert torch.equal(found.train[:, [0, 2]], mixed.train[:, [0, 2]])


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (export, ["out=out"], "this model learns no entity vectors, so there are none to export"),
        (similar, ["entity=person_01"], "this model learns no entity vectors, so no entity is near another"),
        (evaluate, ["other_graph=nowhere"], "nowhere is missing"),
        (evaluate, ["other_graph=strange"], "has relations that family does not have (1, such as 'unheard_of')"),
    ],
)
def test_what_the_model_can_not_do_is_refused_in_one_line(module, words: list[str], message: str, run: Path, command):
    write(other_families(), Path("strange"), lambda name: "unheard_of" if name == "born_in" else name)
    refused = command(module, f"run={run}", *words)
    assert (refused.code, refused.errors.count("\n")) == (1, 1), refused.errors
    assert message in refused.errors


def test_a_model_with_vectors_is_refused_other_entities(finished: Path, command, tmp_path: Path):
    write(other_families(), tmp_path / "other")
    refused = command(evaluate, f"run={finished}", "other_graph=other")
    assert (refused.code, refused.errors.count("\n")) == (1, 1), refused.errors
    assert "has a vector for each entity of its own graph and none for others" in refused.errors


def test_its_report_has_no_map_of_entities_and_vectors_are_refused(run: Path, command):
    assert (made := command(report, f"run={run}", "out=page")).code == 0, made.errors
    model = advkge.load(run)
    assert model.embeddings("relations").shape == (40, 8)
    with pytest.raises(InputError, match="learns no entity vectors"):
        model.embeddings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            (["recipe=none", f"generator={name}"], f"generator: this sampler compares vectors of entities, and {who}")
            for name, who in [
                ("nearest", "discriminator learns none"),
                ("eans", "discriminator learns none"),
                ("diverse", "discriminator learns none"),
                ("influence", "discriminator learns none"),
            ]
        ],
        (["term=[n3]"], "term: terms are about vectors of entities, and discriminator has none; leave out terms"),
        (["encoder=linear"], "encoder must be null with this discriminator, which learns no entity vectors"),
        (["discriminator.reciprocal=false"], "discriminator.reciprocal must be true, got False"),
        (["discriminator.scoring.layers=0"], "discriminator.scoring.layers must be at least 1, got 0"),
        (["discriminator.scoring.most_edges=0"], "discriminator.scoring.most_edges must be null or at least 1, got 0"),
        (["placement.storage=disk"], "placement.storage must be memory"),
        (["grow.run={run}"], "can't be used with a model without entity vectors"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(options: list[str], message: str, run: Path, command):
    chosen = [option.format(run=run) for option in options]
    kept = [option for option in OPTIONS if not option.startswith("generator")]
    refused = command(train, *kept, "trainer.epochs=1", *chosen)
    assert (refused.code, refused.errors.count("\n")) == (1, 1), refused.errors
    assert message in refused.errors


@pytest.mark.parametrize(
    "options",
    [
        ["generator=kbgan", "generator.dim=8", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"],
        ["generator=nscaching"],
        ["generator=near_miss", "pretrain.discriminator.epochs=0"],
        ["loss=self_adversarial"],
        ["loss=k_vs_all", "generator=uniform", "generator.num_negatives=1"],
        ["loss=one_vs_all", "generator=uniform", "generator.num_negatives=1", "average=ema", "average.every=1"],
    ],
    ids=lambda options: options[0],
)
def test_samplers_and_losses_that_score_candidates_take_it(options: list[str], command):
    kept = [option for option in OPTIONS if not option.startswith("generator")]
    done = command(train, *kept, "trainer.epochs=1", "trainer.batch_size=512", *options)
    assert done.code == 0, done.errors
