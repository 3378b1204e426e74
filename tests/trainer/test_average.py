"""Averages of weights beside formulas by hand, and runs with them that are resumed or on several ranks."""

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embedding.model import KGEModel
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, families, model_of, site_of
from trainer.averaging.adaptive import Adaptive
from trainer.averaging.average import Average
from trainer.averaging.ema import EMA
from trainer.averaging.weights import Weights
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.schedule.cosine import Cosine
from trainer.tracking.tracker import Tracker
from trainer.validation import Ranking

DECAY = 0.9


class Statistics(nn.Module):
    """A trained scale, and running statistics as those of batch normalisation: one of floats, one of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def small_model() -> KGEModel:
    model = model_of(site_of(families()))
    model.attached.put("statistics", Statistics())
    return model


@torch.no_grad()
def change(model: KGEModel, number: int) -> None:
    """What a training step might do."""
    generator = torch.Generator().manual_seed(number)
    for tensor in (model.entity.weight, *model.dense_tensors().values()):
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
        else:
            tensor.fill_(number)


def weights_of(model: KGEModel) -> dict[str, Tensor]:
    tensors = {"entity": model.entity.weight, **model.dense_tensors()}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def content(weights: Weights | None) -> dict[str, Tensor]:
    assert weights is not None
    return {"entity": weights.entity, **weights.dense}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].equal(value), key


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-12, atol=1e-12), key


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_ema_is_the_mean_by_age(start: float):
    model, average, steps, every = small_model(), EMA(decay=DECAY, every=3, start=start), 20, 3
    seen: dict[int, dict[str, Tensor]] = {}
    for step in range(1, steps + 1):
        change(model, step)
        seen[step] = weights_of(model)
        average.after_step(model, step, steps)
        updated = [each for each in range(every, step + 1, every) if each >= start * steps]
        assert (average.weights is None) == (not updated)
    updated = [each for each in range(every, steps + 1, every) if each >= start * steps]
    share = {each: DECAY ** (updated[-1] - each) for each in updated}
    expected = {
        key: sum(share[each] * seen[each][key] for each in updated) / sum(share.values())
        for key in ("entity", "relation", "statistics.scale")
    }
    # The statistics are those of the last update.
    expected |= {key: seen[updated[-1]][key] for key in ("statistics.mean", "statistics.count")}
    assert_close(content(average.weights), expected)


def ranking(mrr: float) -> Ranking:
    return Ranking(mrr, {"valid/mrr": mrr, "valid/both/hits@1": mrr / 2})


def test_only_the_average_is_ranked_by_ema_and_the_model_gets_its_weights_back():
    model, average = small_model(), EMA(decay=DECAY, every=1, start=0.0)
    for step in (1, 2):
        change(model, step)
        average.after_step(model, step, 2)
    own, ranked = weights_of(model), []

    def rank() -> Ranking:
        ranked.append(weights_of(model))
        return ranking(0.5)

    parameters = [id(each) for each in model.dense_parameters()]
    assert average.validate(model, rank, regular=True) == ranking(0.5)
    assert len(ranked) == 1
    assert_same(ranked[0], content(average.weights))
    assert_same(weights_of(model), own)
    assert not ranked[0]["entity"].equal(own["entity"])
    assert [id(each) for each in model.dense_parameters()] == parameters


def test_the_model_gets_its_weights_back_after_an_error():
    model = small_model()
    weights = Weights.of(model)
    change(model, 1)
    own = weights_of(model)
    with pytest.raises(InputError), weights.in_place_in(model):
        raise InputError("it has diverged")
    assert_same(weights_of(model), own)


def validated(average: Average, model: KGEModel, mrr: list[float], *, regular: bool = True) -> Ranking:
    """Validates with these MRRs, one for each ranking."""
    left = iter(mrr)
    found = average.validate(model, lambda: ranking(next(left)), regular=regular)
    assert next(left, None) is None
    return found


def mean_of(*models: dict[str, Tensor]) -> dict[str, Tensor]:
    averaged = {"entity", "relation", "statistics.scale"}
    return {
        key: sum(each[key] for each in models) / len(models) if key in averaged else models[-1][key]
        for key in models[0]
    }


def test_adaptive_accepts_rejects_and_starts_again():
    model, average = small_model(), Adaptive()
    seen = []
    # The MRR of the model and of its mean with the average; then that of the new average, and the models in it.
    script: list[tuple[list[float], float, list[int]]] = [
        ([0.1], 0.1, [0]),  # the first
        ([0.05, 0.2], 0.2, [0, 1]),  # the mean is better
        ([0.3, 0.4], 0.4, [0, 1, 2]),  # the model is better than before, but the mean is better still
        ([0.1, 0.3], 0.4, [0, 1, 2]),  # the mean is worse
        ([0.35, 0.4], 0.4, [0, 1, 2]),  # the mean is not better
        ([0.1, 0.5], 0.5, [0, 1, 2, 5]),
        ([0.6, 0.55], 0.6, [6]),  # the model alone is best
        ([0.6, 0.6], 0.6, [6]),
        ([0.0, 0.7], 0.7, [6, 8]),
    ]
    for number, (mrr, best, members) in enumerate(script):
        change(model, number)
        seen.append(weights_of(model))
        found = validated(average, model, mrr)
        assert found.value == best
        assert found.metrics["valid/mrr"] == best
        assert found.metrics["valid/both/hits@1"] == best / 2
        assert found.metrics["average/raw"] == mrr[0]
        assert found.metrics["average/models"] == len(members)
        assert_close(content(average.weights), mean_of(*(seen[each] for each in members)))
        assert_same(weights_of(model), seen[-1])


def test_adaptive_ranks_the_mean_before_it_decides():
    model, average = small_model(), Adaptive()
    change(model, 1)
    first = weights_of(model)
    validated(average, model, [0.1])
    change(model, 2)
    second, ranked = weights_of(model), []

    def rank() -> Ranking:
        ranked.append(weights_of(model))
        return ranking(0.2)

    average.validate(model, rank, regular=True)
    assert_same(ranked[0], second)
    assert_close(ranked[1], mean_of(first, second))


@pytest.mark.parametrize("before", [0, 1, 2])
def test_adaptive_forgets_a_validation_at_the_end_if_the_run_goes_on(before: int):
    model, average, expected = small_model(), Adaptive(), Adaptive()
    for number in range(before):
        change(model, number)
        for each in (average, expected):
            validated(each, model, [0.1 + number / 10, 0.2 + number / 10][: 1 + (number > 0)])
    change(model, 7)
    validated(average, model, [0.8, 0.9][: 1 + (before > 0)], regular=False)
    loaded = Adaptive()
    loaded.load_state(model, json.loads(json.dumps(average.state(), allow_nan=False)))
    assert loaded.saved().keys() == average.saved().keys()
    for name, weights in average.saved().items():
        weights.copy_to(model)
        for key, tensor in content(loaded.saved()[name]).items():
            tensor.copy_(weights_of(model)[key])
    loaded.take_up_again()
    assert average.state() != expected.state()
    assert loaded.state() == expected.state()
    if before:
        assert_same(content(loaded.weights), content(expected.weights))
    else:
        assert loaded.weights is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(decay=1.0, every=1, start=0.0), "average.decay must be above 0 and below 1, got 1.0"),
        (lambda: EMA(decay=math.nan, every=1, start=0.0), "average.decay must be above 0 and below 1, got nan"),
        (lambda: EMA(decay=0.9, every=0, start=0.0), "average.every must be at least 1, got 0"),
        (lambda: EMA(decay=0.9, every=1, start=1.0), r"average.start must be in \[0, 1\), got 1.0"),
        (
            lambda: EMA(decay=0.9, every=11, start=0.0).check_stage(10, validated=True),
            "average.every=11 with average.start=0.0 updates the average at none of the last stage's 10 steps",
        ),
        (
            lambda: EMA(decay=0.9, every=6, start=0.7).check_stage(10, validated=True),
            "average.every=6 with average.start=0.7 updates the average at none of the last stage's 10 steps",
        ),
        (
            lambda: Adaptive().check_stage(10, validated=False),
            "average=adaptive goes by validation, but this run has none",
        ),
    ],
)
def test_what_makes_no_sense_is_named(make: Callable[[], Average], message: str):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("steps", [10, 11, 0])
def test_an_average_that_is_updated_once_will_do(steps: int):
    EMA(decay=0.9, every=10, start=0.9).check_stage(steps, validated=False)


@pytest.mark.parametrize(
    ("average", "state", "message"),
    [
        (EMA(decay=0.9, every=1, start=0.0), {}, "average.updates of the checkpoint must be a count, got None"),
        (EMA(decay=0.9, every=1, start=0.0), {"updates": -1}, "average.updates .* must be a count, got -1"),
        (Adaptive(), {}, "average.kept.models of the checkpoint must be a count, got None"),
        (Adaptive(), {"kept.models": 0.5}, "average.kept.models of the checkpoint must be a count, got 0.5"),
        (Adaptive(), {"kept.models": 2}, "the checkpoint's average has no kept.value"),
        (
            Adaptive(),
            {"kept.models": 0, "aside.models": -3},
            "average.aside.models of the checkpoint must be a count, got -3",
        ),
    ],
)
def test_a_state_of_another_make_is_named(average: Average, state: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        average.load_state(small_model(), state)


AVERAGES: dict[str, Callable[[], Average]] = {
    "ema": lambda: EMA(decay=0.8, every=2, start=0.3),  # validated once before it begins
    "adaptive": Adaptive,
}


def run_of(folder: Path, average: Average | None, *, epochs: int = 3, **options: Any) -> KBGANRun:
    """Two epochs of pre-training, which are steps 1 to 10, then the epochs of the last stage, of five steps each."""
    run = KBGANRun(folder, average=average, epochs=epochs, **options)
    for stage in run.trainer.stages[:2]:
        stage.__dict__["epochs"] = 1
    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("speed/")} for line in found]


class StopAt(Tracker):
    """Asks a run to stop at a step."""

    def __init__(self, run: KBGANRun, step: int) -> None:
        self.run = run
        self.step = step

    def start(self, *_: object, **__: object) -> None: ...

    def log(self, step: int, _: object) -> None:
        if step == self.step:
            self.run.runtime.stop_signal = signal.SIGTERM

    def finish(self, _: object) -> None: ...


def stop(run: KBGANRun, step: int) -> None:
    """Trains `step` steps and saves a checkpoint."""
    run.trainer.trackers = [*run.trainer.trackers, StopAt(run, step - 1)]
    with pytest.raises(Stopped):
        run.fit()


def resume(run: KBGANRun) -> None:
    checkpoint = find_checkpoint(run.folder, "latest", "resume")
    run.trainer.resume(checkpoint, run.trainer.checkpointer.read_manifest(checkpoint))
    run.fit()


def test_the_model_trains_as_without_an_average_and_ends_with_it(tmp_path: Path):
    (plain := run_of(tmp_path / "plain", None)).fit()
    steps = [line for line in lines(plain.folder) if "loss" in line]
    for name, make in AVERAGES.items():
        run = run_of(tmp_path / name, make())
        run.fit()
        assert [line for line in lines(run.folder) if "loss" in line] == steps
        checkpoint = find_checkpoint(run.folder, "best_adversarial", "")
        fresh, average = KBGANRun(tmp_path / "fresh"), run.parameters()
        fresh.trainer.checkpointer.load_trained(checkpoint, {"discriminator": fresh.model})
        assert_same(
            {key: value for key, value in fresh.parameters().items() if key.startswith("discriminator")},
            {key: value for key, value in average.items() if key.startswith("discriminator")},
        )
        # What validation ranked is what the run ends with.
        best = max(
            line["valid/mrr"] for line in lines(run.folder) if line["stage"] == "adversarial" and "valid/mrr" in line
        )
        assert run.trainer.validation.of(run.model).value == best


def test_a_run_without_validation_ends_with_the_average(tmp_path: Path):
    (plain := run_of(tmp_path / "plain", None, valid_every=0)).fit()
    run = run_of(tmp_path / "ema", AVERAGES["ema"](), valid_every=0)
    run.fit()
    found, raw = run.parameters(), plain.parameters()
    assert found["generator entity"].equal(raw["generator entity"])
    assert not found["discriminator entity"].equal(raw["discriminator entity"])
    checkpoint = find_checkpoint(run.folder, "latest", "")
    fresh = KBGANRun(tmp_path / "fresh")
    fresh.trainer.checkpointer.load(checkpoint, fresh.trainer.players)
    assert_same(fresh.parameters(), raw)
    fresh.trainer.checkpointer.load_trained(checkpoint, {"discriminator": fresh.model})
    assert_same(fresh.parameters(), found)


@pytest.fixture(scope="module", params=AVERAGES)
def unbroken(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KBGANRun]]:
    run = run_of(tmp_path_factory.mktemp("unbroken"), AVERAGES[request.param]())
    run.fit()
    return request.param, run


# In pre-training, at a stage's start, between validations, at one, and at the end of the last stage.
@pytest.mark.parametrize("step", [3, 10, 13, 17, 20, 25])
def test_stopped_and_resumed_is_as_if_unbroken(step: int, unbroken: tuple[str, KBGANRun], tmp_path: Path):
    name, whole = unbroken
    stop(run_of(tmp_path, AVERAGES[name]()), step)
    again = run_of(tmp_path, AVERAGES[name]())
    resume(again)
    assert lines(tmp_path) == lines(whole.folder)
    assert_same(again.parameters(), whole.parameters())
    assert again.trainer.cursor.finished == whole.trainer.cursor.finished


# Validations at 2 and 4 of the last stage's epochs, and at its end: at 3, which the longer run would not have, or at 4.
@pytest.mark.parametrize("make", [lambda: EMA(decay=0.8, every=2, start=0.0), Adaptive], ids=AVERAGES)
@pytest.mark.parametrize("shorter", [3, 4])
def test_a_finished_run_goes_on_to_more_epochs_as_if_unbroken(
    shorter: int, make: Callable[[], Average], tmp_path: Path
):
    (whole := run_of(tmp_path / "whole", make(), epochs=6, valid_every=2)).fit()
    run_of(tmp_path / "broken", make(), epochs=shorter, valid_every=2).fit()
    resume(again := run_of(tmp_path / "broken", make(), epochs=6, valid_every=2))
    assert_same(again.parameters(), whole.parameters())
    later = [[line for line in lines(each.folder) if line["step"] > 10 + 5 * shorter] for each in (whole, again)]
    assert later[0] == later[1]


@pytest.mark.parametrize(("own", "other"), [("ema", "adaptive"), ("ema", None), (None, "adaptive")])
def test_a_run_with_another_average_is_not_resumed(own: str | None, other: str | None, tmp_path: Path):
    def run(name: str | None) -> KBGANRun:
        return run_of(tmp_path, None if name is None else AVERAGES[name](), epochs=1)

    stop(run(other), 12)
    message = f"resume: average is {own or 'null'} in this run, but {other or 'null'} in {tmp_path}"
    with pytest.raises(InputError, match=message):
        resume(run(own))


def test_a_run_takes_an_average_up_to_its_last_stage(tmp_path: Path):
    stop(run_of(tmp_path, None, epochs=1), 10)
    run = run_of(tmp_path, AVERAGES["ema"](), epochs=1)
    resume(run)
    assert run.trainer.stages[-1].average is not None
    assert run.trainer.stages[-1].average.weights is not None


WITH_ALL: dict[str, Any] = {"schedule": Cosine(warm_up=1.0, last=0.1), "dropout": 0.3}
"""A schedule and dropout, so that they are tried together with averages."""


def fit_on_ranks(rank: int, world_size: int, folder: Path) -> list[tuple[list[dict[str, Any]], dict[str, Tensor]]]:
    """A run with each average; and one of each that was stopped between validations."""
    found = []
    for name, make in AVERAGES.items():
        runtime = Runtime(rank, world_size, torch.device("cpu"))
        run = run_of(folder / f"{world_size}_{name}", make(), runtime=runtime, **WITH_ALL)
        run.fit()
        found.append((lines(run.folder) if rank == 0 else [], run.parameters()))
        if world_size > 1:
            stop(run_of(folder / f"broken_{name}", make(), runtime=runtime, **WITH_ALL), 17)
    return found


@pytest.mark.slow
def test_three_ranks_have_the_average_of_one_with_a_schedule_and_dropout(tmp_path: Path):
    one, (three, *_) = fit_on_ranks(0, 1, tmp_path), run_on_ranks(3, fit_on_ranks, tmp_path)
    for name, (expected_lines, expected), (found_lines, found) in zip(AVERAGES, one, three, strict=True):
        # Metrics of ranks come of integer counts, so they are equal.
        kept = ("valid", "average", "stage", "step")
        one_s, three_s = (
            [{key: line[key] for key in line if key.startswith(kept)} for line in each]
            for each in (expected_lines, found_lines)
        )
        assert one_s == three_s
        resume(again := run_of(tmp_path / f"broken_{name}", AVERAGES[name](), **WITH_ALL))  # on one rank
        for key, value in expected.items():
            assert torch.allclose(found[key], value, rtol=1e-9, atol=1e-9), key
            assert torch.allclose(again.parameters()[key], value, rtol=1e-9, atol=1e-9), key
