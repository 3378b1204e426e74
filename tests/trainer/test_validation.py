"""What validation ranks, and by which metric it tells how good a model is."""

import json
from pathlib import Path

import pytest
import torch

from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, families
from trainer.runtime import Runtime
from trainer.validation import METRICS, Validation


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_is_the_metric_of_both_sides(metric: str, tmp_path):
    run = KBGANRun(tmp_path, metric=metric)
    validated = run.trainer.validation.of(run.model)
    assert validated.value == validated.metrics[f"valid/{metric}"] == validated.metrics[f"valid/both/{metric}"]
    assert validated.metrics["valid/mrr"] == validated.metrics["valid/both/mrr"]
    assert validated.metrics["valid/both/count"] == 2 * len(run.graph.valid)
    assert {"valid/head/hits@1", "valid/tail/mean_rank"} <= validated.metrics.keys()


@pytest.mark.parametrize("metric", ["MRR", "hits@5", "mean_rank", ""])
def test_a_metric_that_can_t_choose_is_named(metric: str, tmp_path):
    evaluator = KBGANRun(tmp_path).trainer.validation.evaluator
    with pytest.raises(InputError, match=f"trainer.metric must be one of mrr, hits@1, hits@3, hits@10, got '{metric}'"):
        Validation(evaluator, families().valid, metric=metric, sample=None, seed=3)


def validation_of(run: KBGANRun, sample: int | None, seed: int = 3) -> Validation:
    return Validation(run.trainer.validation.evaluator, families().valid, metric="mrr", sample=sample, seed=seed)


def test_a_sample_is_of_distinct_triples_and_drawn_by_the_seed(tmp_path: Path):
    run, valid = KBGANRun(tmp_path), families().valid
    whole = [tuple(triple) for triple in valid.tolist()]
    counts = torch.zeros(len(valid))
    for seed in range(200):
        triples = [tuple(triple) for triple in validation_of(run, 20, seed).triples.tolist()]
        places = [whole.index(triple) for triple in triples]
        assert places == sorted(set(places)) and len(places) == 20
        counts[places] += 1
    # Each triple is in 200 * 20 / T samples: within five standard deviations.
    share = 20 / len(valid)
    assert (counts - 200 * share).abs().max() < 5 * (200 * share * (1 - share)) ** 0.5
    assert validation_of(run, 20, 7).triples.equal(validation_of(run, 20, 7).triples)
    assert validation_of(run, len(valid)).triples.equal(valid)


def test_metrics_of_a_sample_are_named_so(tmp_path: Path):
    run = KBGANRun(tmp_path)
    validation = validation_of(run, 7)
    validated = validation.of(run.model)
    assert validated.metrics["valid_sample/both/count"] == 14
    assert validated.value == validated.metrics["valid_sample/mrr"]
    assert not any(name.startswith("valid/") for name in validated.metrics)
    assert (validation.name, validation.line(0.25)) == (
        "valid_sample/mrr",
        "validation mrr of 7 sampled triples 0.2500",
    )


@pytest.mark.parametrize("sample", [0, -1, 10_000])
def test_a_sample_of_too_many_or_none_is_named(sample: int, tmp_path: Path):
    message = f"trainer.valid_sample must be at least 1 and at most the {len(families().valid)} valid triples"
    with pytest.raises(InputError, match=rf"{message}, or null, got {sample}"):
        validation_of(KBGANRun(tmp_path), sample)


def fit_on_ranks(rank: int, world_size: int, folder: Path) -> list[dict]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    run = KBGANRun(folder / str(world_size), runtime=runtime, sample=9)
    run.fit()
    lines = (run.folder / "metrics.jsonl").read_text().splitlines() if rank == 0 else []
    return [line for line in map(json.loads, lines) if "valid_sample/mrr" in line]


@pytest.mark.slow
def test_the_sample_is_the_same_on_two_ranks(tmp_path: Path):
    (one,), (two, _) = run_on_ranks(1, fit_on_ranks, tmp_path), run_on_ranks(2, fit_on_ranks, tmp_path)
    assert len(one) == 6
    assert [line["valid_sample/both/mean_rank"] for line in two] == [
        line["valid_sample/both/mean_rank"] for line in one
    ]
