"""The average of weights is what a run ends with: in its result, and for every command that takes a trained model."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from launch import evaluate, export, train
from launch.build import build_run, build_trainer
from tests.configs import composed
from trainer.runtime import Runtime

# At this rate the model and its average rank differently.
OPTIONS = ["generator=uniform", "optimizer.lr=0.1", "trainer.epochs=4", "trainer.valid_every=2", "hydra.run.dir=run"]


def in_order(tensors: Mapping[str, Tensor], key: str) -> np.ndarray:
    return tensors[key][tensors["entity"].argsort()].numpy()


@pytest.mark.parametrize("average", [["average=ema", "average.every=2"], ["average=adaptive"]], ids=["ema", "adaptive"])
def test_a_trained_model_is_its_average(average: list[str], command, tiny_plain):
    outcome = command(train, *tiny_plain, *OPTIONS, *average)
    assert outcome.code == 0, outcome.errors
    result = json.loads(Path("run/result.json").read_text())
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    validations = {line["step"]: line for line in lines if "valid/mrr" in line}
    best = validations[result["best_step"]]
    assert result["valid"]["both"]["mrr"] == best["valid/mrr"] == max(v["valid/mrr"] for v in validations.values())
    assert ("average/raw" in best) == (average == ["average=adaptive"])

    assert command(evaluate, "run=run", "split=valid", "out=valid.json").code == 0
    assert json.loads(Path("valid.json").read_text())["valid"] == result["valid"]
    assert command(evaluate, "run=run", "split=test", "out=test.json").code == 0
    assert json.loads(Path("test.json").read_text())["test"] == result["test"]

    assert command(export, "run=run", "out=exported").code == 0
    pointed = Path("run/checkpoints") / json.loads(Path("run/checkpoints/best_training.json").read_text())["checkpoint"]
    rows = load_file(pointed / "rows_0_of_1.safetensors")
    exported = np.load("exported/entity.npy")
    assert np.array_equal(exported, in_order(rows, "discriminator/average/weight"))
    if average != ["average=adaptive"]:  # which may have started again
        assert not np.array_equal(exported, in_order(rows, "discriminator/weight"))

    config = composed("train", *tiny_plain, "generator=uniform", "pretrain.discriminator.checkpoint=run")
    run = build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0))
    build_trainer(run, Path("next"))
    taken = run.discriminator.entity.weight[run.discriminator.entity.row_of_entity]
    assert np.array_equal(taken.numpy(), exported)
    dense = load_file(pointed / "dense.safetensors")
    assert torch.equal(run.discriminator.scorer.relation.detach(), dense["discriminator/average/dense/relation"])


def test_a_run_is_resumed_with_its_average_and_no_other(command, tiny_plain):
    assert command(train, *tiny_plain, *OPTIONS, "trainer.epochs=1", "average=adaptive").code == 0
    outcome = command(train, "resume=run", "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors
    assert "average/raw" in json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    refused = command(train, "resume=run", "average=null", "trainer.epochs=4")
    assert (refused.code, refused.errors.count("\n")) == (1, 1)
    assert "resume: average is null in this run, but adaptive in" in refused.errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["average=adaptive", "trainer.valid_every=0"], "average=adaptive goes by validation, but this run has none"),
        (
            ["average=ema", "average.every=1000"],
            "average.every=1000 with average.start=0.0 updates the average at none",
        ),
        (["average=ema", "average.decay=2.0"], "average.decay must be above 0 and below 1, got 2.0"),
        (["average=ema", "average.every=often"], "average.every must be an integer, got 'often'"),
        (["average=mean"], "there is no such average; there are adaptive, ema; average=null for none"),
    ],
)
def test_one_line_says_what_is_wrong(options: list[str], message: str, command, tiny_plain):
    outcome = command(train, *tiny_plain, *OPTIONS, *options)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert message in outcome.errors
    assert not Path("run/metrics.jsonl").exists()


def test_adaptive_needs_valid_triples(command, tiny_plain, tmp_path):
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "train.txt").write_text("".join(f"e{n}\tr\te{n + 1}\n" for n in range(20)))
    options = [option for option in tiny_plain if not option.startswith(("graph.", "trainer.valid_every"))]
    options += ["graph=folder", f"graph.path={tmp_path / 'graph'}", "generator=uniform", "hydra.run.dir=run"]
    outcome = command(train, *options, "average=adaptive")
    assert "error: average=adaptive goes by validation, but this run has none" in outcome.errors
    outcome = command(train, *options, "average=ema", "average.every=1")
    assert outcome.code == 0, outcome.errors
