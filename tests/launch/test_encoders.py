"""Runs with an encoder: resumed, evaluated, exported and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from launch import evaluate, export, train
from launch.saved_run import load_run
from launch.trained_options import GraphPlace, SavedRunOptions
from tests.configs import composed
from trainer.runtime import Runtime

OPTIONS = [
    "discriminator=distmult",
    "discriminator.reciprocal=true",
    "generator=uniform",
    "discriminator.dim=8",
    "trainer.valid_every=0",
]


def last(run: str) -> dict[str, torch.Tensor]:
    checkpoints = Path(run) / "checkpoints"
    latest = checkpoints / json.loads((checkpoints / "latest.json").read_text())["checkpoint"]
    files = [load_file(latest / name) for name in ("rows_0_of_1.safetensors", "dense.safetensors")]
    return files[0] | files[1]


def filtered_mrr(triples: torch.Tensor, known: set[tuple[int, ...]], entity: np.ndarray, relation: np.ndarray) -> float:
    """Of DistMult rows, one query after the other."""
    inverse = len(relation) // 2
    total = 0.0
    for h, r, t in triples.tolist():
        for anchor, row, answer, others in (
            (h, r, t, {b for a, q, b in known if (a, q) == (h, r)}),
            (t, r + inverse, h, {a for a, q, b in known if (q, b) == (r, t)}),
        ):
            score = entity @ (entity[anchor] * relation[row])
            candidates = [e for e in range(len(entity)) if e == answer or e not in others]
            greater = int((score[candidates] > score[answer]).sum())
            equal = int((score[candidates] == score[answer]).sum())
            total += 1 / (greater + (equal + 1) / 2)
    return total / (2 * len(triples))


@pytest.mark.parametrize("option", ["fanout=null", "fanout=[2]", "batch_norm=true"])
def test_a_run_is_resumed_as_if_unbroken_and_exports_the_rows_that_it_ranks(option: str, command, tiny_plain):
    options = [*tiny_plain, *OPTIONS, "encoder=compgcn", f"encoder.{option}", "schedule=constant"]
    assert (whole := command(train, *options, "trainer.epochs=3", "hydra.run.dir=whole")).code == 0, whole.errors
    assert command(train, *options, "trainer.epochs=1", "hydra.run.dir=run").code == 0
    assert (resumed := command(train, "resume=run", "trainer.epochs=3")).code == 0, resumed.errors
    for key, value in last("whole").items():
        torch.testing.assert_close(last("run")[key], value, rtol=1e-6, atol=1e-9, msg=key)
    assert ("discriminator/dense/encoder.norms.0.running_mean" in last("run")) == (option == "batch_norm=true")

    result = json.loads(Path("run/result.json").read_text())
    assert command(evaluate, "run=run", "split=test", "out=test.json").code == 0
    assert json.loads(Path("test.json").read_text())["test"] == result["test"]

    assert (exported := command(export, "run=run", "out=exported")).code == 0, exported.errors
    place = GraphPlace(root=None, path=None, cache=None)
    run, _ = load_run(SavedRunOptions("run", None, place), Runtime.start(device="cpu", timeout_seconds=1.0))
    entity, relation = np.load("exported/entity.npy"), np.load("exported/relation.npy")
    assert np.array_equal(entity, run.discriminator.entity.gather_all(run.discriminator.entity.weight).numpy())
    assert not np.array_equal(entity, last("run")["discriminator/weight"][last("run")["entity"].argsort()].numpy())
    known = {tuple(fact) for split in ("train", "valid", "test") for fact in getattr(run.graph, split).tolist()}
    found = filtered_mrr(run.graph.test, known, entity, relation)
    assert found == pytest.approx(result["test"]["both"]["mrr"], abs=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["encoder=gcn"],
            "encoder=gcn: there is no such encoder; did you mean rgcn or compgcn? There are attention, compgcn, ",
        ),
        (["encoder=compgcn", "encoder.layers=0"], "encoder.layers must be at least 1, got 0"),
        (["encoder=compgcn", "encoder.heads=2"], "encoder.heads: there is no such option; encoder has layers"),
        (
            ["encoder=rgcn", "discriminator.max_norm=1.0"],
            "discriminator.max_norm must be null with an encoder, got 1.0",
        ),
        (
            ["encoder=compgcn", "encoder.layers=2", "encoder.fanout=[10]"],
            "encoder.fanout must be null, or a list of 2 whole numbers of at least 1, one for each of encoder.layers=2",
        ),
        (
            ["encoder=compgcn", "encoder.fanout=[10]", "loss=k_vs_all", "generator.num_negatives=1"],
            "loss=k_vs_all compares each positive with all entities, and encoder.fanout=[10] makes only the rows",
        ),
        (
            ["encoder=compgcn", "encoder.fanout=[10]", "encoder.batch_norm=true"],
            "encoder.batch_norm must be false with a fan-out, got true with encoder.fanout=[10]: it takes means over",
        ),
        (["encoder=true"], "encoder=true: there is no such encoder"),
    ],
)
def test_what_can_not_work_is_refused_in_one_line(options: list[str], message: str, command, tiny_plain):
    refused = command(train, *tiny_plain, *OPTIONS, "trainer.epochs=1", *options)
    assert (refused.code, refused.errors.count("\n")) == (1, 1)
    assert message in refused.errors


def test_no_encoder_is_the_default(tiny_plain):
    assert composed("train", *tiny_plain).encoder is None
