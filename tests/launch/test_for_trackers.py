"""What trackers show of whole runs besides metrics: tables by name, images, exports; and what they cost nobody else."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from embedding.model import KGEModel
from graph.knowledge_graph import KnowledgeGraph
from launch import train
from launch.saved_run import load_run
from launch.trained_options import GraphPlace, SavedRunOptions
from tests.wandb_files import records, tables
from tests.worlds import one_rank

OPTIONS = ["discriminator=distmult", "dtype=float64", "pretrain.discriminator.epochs=0"]
SPLITS = ("train", "valid", "test", "hidden")
Triple = tuple[int, int, int]


@pytest.fixture
def tracked(command, tiny, warm, no_account, tmp_path):
    """Trains on so many ranks, tracked by wandb; returns the folders of the run and of wandb's."""

    def run(ranks: int, *others: str) -> tuple[Path, Path]:
        folder = tmp_path / f"on_{ranks}"
        options = ("mode=offline", "predictions=4", *others)
        wanted = ["tracker=wandb", *(f"trackers.wandb.{line}" for line in options)]
        outcome = command(train, *tiny, *OPTIONS, *wanted, f"launch.ranks={ranks}", f"hydra.run.dir={folder}")
        assert outcome.code == 0, outcome.errors
        (own,) = folder.glob("wandb/offline-run-*")
        return folder, own

    return run


def trained(folder: Path) -> tuple[KnowledgeGraph, KGEModel]:
    run, _ = load_run(SavedRunOptions(str(folder), None, GraphPlace(None, None, None)), one_rank())
    return run.graph, run.discriminator


class Judge:
    """Scores all entities in place of one side of a triple, in the plainest way."""

    def __init__(self, folder: Path) -> None:
        self.graph, model = trained(folder)
        self.rows = model.entity.weight[model.entity.row_of_entity].detach()
        self.relation = model.scorer.relation.detach()
        self.facts = {split: set(map(tuple, getattr(self.graph, split).tolist())) for split in SPLITS}

    def ids(self, row: dict[str, Any]) -> Triple:
        head, tail = (self.graph.entity_names.index(row[side]) for side in ("head", "tail"))
        return head, self.graph.relation_names.index(row["relation"]), tail

    def scored(self, triple: Triple, side: str) -> list[tuple[float, str, Triple]]:
        """Score, name and triple of each entity, best first."""
        head, relation, tail = triple
        kept = tail if side == "head" else head
        score = (self.rows @ (self.rows[kept] * self.relation[relation])).tolist()
        triples = [
            (each, relation, tail) if side == "head" else (head, relation, each)
            for each in range(self.graph.num_entities)
        ]
        return sorted(zip(score, self.graph.entity_names, triples, strict=True), reverse=True)

    def split_of(self, triple: Triple) -> str:
        return next((split for split in SPLITS if triple in self.facts[split]), "no")


@pytest.mark.slow
def test_wandb_gets_what_is_in_the_run_and_the_same_tables_on_two_ranks(tracked):
    folder, own = tracked(1, "plots=true", "export=true")
    judge = Judge(folder)
    negatives, predictions = tables(own, "hardest_negatives"), tables(own, "predictions")
    assert [step for step, _ in negatives] == [*validated(folder), best_step(folder)]
    assert [step for step, _ in predictions] == [best_step(folder)]
    check_negatives(judge, negatives[-1][1])
    check_predictions(judge, predictions[0][1])
    check_images(own)
    check_export(own, folder)
    assert not list(folder.glob("for_trackers_*"))
    _, on_two = tracked(2)
    numbers = ("negative_score", "positive_score", "score")
    for name, here in (("hardest_negatives", negatives), ("predictions", predictions)):
        for (step, rows), (other_step, others) in zip(here, tables(on_two, name), strict=True):
            assert step == other_step
            for row, other in zip(rows, others, strict=True):
                for key in numbers:
                    assert row.pop(key, 0) == pytest.approx(other.pop(key, 0), rel=1e-6)
            assert rows == others


def best_step(folder: Path) -> int:
    return json.loads((folder / "result.json").read_text())["best_step"]


def validated(folder: Path) -> list[int]:
    """The steps of the last stage's validations."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["stage"] == "adversarial" and "valid/both/mrr" in line]


def check_negatives(judge: Judge, rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 36
    for first in range(0, 36, 3):
        shown, triple = rows[first : first + 3], judge.ids(rows[first])
        assert judge.split_of(triple) == "train"
        scored = judge.scored(triple, shown[0]["replaced"])
        best = [each for each in scored if judge.split_of(each[2]) != "train" and each[2][0] != each[2][2]][:3]
        assert [row["negative"] for row in shown] == [name for _, name, _ in best]
        assert [row["known_fact"] for row in shown] == [judge.split_of(each) for *_, each in best]
        assert [row["negative_score"] for row in shown] == pytest.approx([score for score, *_ in best])
        own_score = next(score for score, _, each in scored if each == triple)
        assert [row["positive_score"] for row in shown] == pytest.approx([own_score] * 3)


def check_predictions(judge: Judge, rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 4 * 2 * 10
    for first in range(0, len(rows), 10):
        shown, triple = rows[first : first + 10], judge.ids(rows[first])
        assert judge.split_of(triple) == "test"
        scored = judge.scored(triple, shown[0]["asked"])
        assert [(row["place"], row["answer"]) for row in shown] == [
            (place, name) for place, (_, name, _) in enumerate(scored[:10], 1)
        ]
        assert [row["score"] for row in shown] == pytest.approx([score for score, *_ in scored[:10]])
        assert [row["is_true_answer"] for row in shown] == [each == triple for *_, each in scored[:10]]
        known = [judge.split_of(each) in ("train", "valid", "test") for *_, each in scored]
        assert [row["known_fact"] for row in shown] == known[:10]
        left = [each for (*_, each), is_known in zip(scored, known, strict=True) if each == triple or not is_known]
        assert {row["true_rank"] for row in shown} == {left.index(triple) + 1}


def check_images(own: Path) -> None:
    curves = [f"adversarial_{name}" for name in ("loss", "valid_metrics", "learning_rate", "reward", "entropy")]
    for name in [*curves, "pretrain_generator_loss"]:
        (image,) = own.glob(f"files/media/images/plots/{name}_*.png")
        assert imread(image)[..., 3].max() > 0  # its ground is clear, and something is drawn on it


def check_export(own: Path, folder: Path) -> None:
    (file,) = own.glob("*.wandb")
    found = [record.artifact for record in records(file) if record.HasField("artifact")]
    (export,) = [each for each in found if each.type == "embeddings"]
    files = {entry.path: Path(entry.local_path) for entry in export.manifest.contents}
    assert {"model.json", "entities.tsv", "relations.tsv"} < set(files)
    graph, model = trained(folder)
    assert np.array_equal(np.load(files["entity.npy"]), model.entity.weight[model.entity.row_of_entity].detach())
    assert files["entities.tsv"].read_text().splitlines()[1] == f"1\t{graph.entity_names[1]}"


@pytest.fixture
def csv_run(command, tiny_plain, tmp_path):
    """Trains on a graph that has only train triples, tracked in CSV."""

    def run(*others: str) -> Any:
        data = tmp_path / "data"
        data.mkdir()
        (data / "train.txt").write_text("".join(f"e{n}\tr{n % 2}\te{(7 * n + 1) % 12}\n" for n in range(12)))
        graph = ["graph=folder", f"graph.path={data}", "generator=uniform", "trainer.valid_every=0"]
        options = [line for line in tiny_plain if not line.startswith(("graph.", "trainer.valid_every"))]
        return command(train, *options, *graph, "tracker=csv", "hydra.run.dir=run", *others)

    return run


def test_csv_gets_tables_as_files_but_for_those_that_would_be_empty(csv_run):
    outcome = csv_run()
    assert outcome.code == 0, outcome.errors
    with Path("run/hardest_negatives.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert {row["known_fact"] for row in rows} == {"no"}
    assert not Path("run/predictions.csv").exists()


def test_what_is_not_wanted_is_not_made(csv_run):
    assert csv_run("trackers.csv.hardest_negatives=false").code == 0
    assert {path.name for path in Path("run").glob("*.csv")} == {"metrics.csv"}


def test_tables_change_nothing_in_the_run(command, tiny_plain):
    def losses(*tracker: str) -> list[float]:
        folder = Path("tracked" if tracker else "plain")
        options = [*tiny_plain, "generator=uniform", *tracker, f"hydra.run.dir={folder}"]
        assert command(train, *options).code == 0
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [value for line in lines for key, value in line.items() if key in ("loss", "valid/both/mrr")]

    assert losses("tracker=csv") == losses()


def test_a_table_that_cant_be_written_costs_no_result(csv_run):
    Path("run/hardest_negatives.csv").mkdir(parents=True)
    outcome = csv_run()
    assert outcome.code == 1
    assert outcome.errors.endswith("run/hardest_negatives.csv can't be written: Is a directory\n")
    assert outcome.errors.count("\n") == 1
    assert json.loads(Path("run/result.json").read_text())["steps"] > 0


def test_too_many_predictions_are_refused_before_training(csv_run):
    outcome = csv_run("trackers.csv.predictions=501")
    assert outcome.errors == "error: trackers.csv: predictions must be from 0 to 500, got 501\n"
    assert not Path("run/checkpoints").exists()
