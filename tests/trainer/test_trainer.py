import json
import logging
import math
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discriminator.loss.loss import Loss, Scores
from discriminator.loss.margin_ranking import MarginRanking
from generator.baseline import LeaveOneOut, PerQuery, RunningMean
from generator.bernoulli import BernoulliSampler
from generator.kbgan import normalised
from generator.sampler import Reward, Statistic
from graph.batch import Batch, Negatives
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, order_of
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.schedule.constant import Constant
from trainer.tracking.tracker import Tracker

STEPS = 10  # of a stage: two epochs of five


class Crash(Exception):
    """The end of a process."""


class Trigger(Tracker):
    """Does something once the metrics of a step were logged."""

    def __init__(self, step: int, action: Any) -> None:
        self.step = step
        self.action = action

    def start(self, folder: Path, config: Mapping[str, Any], **_: object) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        if step == self.step:
            self.action()

    def finish(self, result: Mapping[str, Any] | None) -> None:
        pass


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics, without those that tell the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("speed/")} for line in lines]


def fit(run: KBGANRun) -> dict[str, Tensor]:
    run.fit()
    return run.parameters()


def resume(run: KBGANRun, where: Path | None = None) -> dict[str, Tensor]:
    checkpoint = find_checkpoint(where or run.folder, "latest", "resume")
    run.trainer.resume(checkpoint, run.trainer.checkpointer.read_manifest(checkpoint))
    return fit(run)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].equal(value), key


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Metrics and parameters of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    parameters = fit(KBGANRun(folder))
    return lines_of(folder), parameters


def test_a_run_has_kbgans_three_stages(unbroken: tuple[list[dict[str, Any]], dict[str, Tensor]]):
    lines, _ = unbroken
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 3 * STEPS + 1))
    stages = ["pretrain_generator", "pretrain_discriminator", "adversarial"]
    assert [line["stage"] for line in steps] == [stage for stage in stages for _ in range(STEPS)]
    assert [line["epoch"] for line in steps] == [*[0] * 5, *[1] * 5] * 3
    assert [line["step"] for line in lines if "valid/mrr" in line] == [5, 10, 15, 20, 25, 30]
    # Its generator learns in the last stage, and draws from pools.
    assert {"generator/reward", "generator/entropy", "digest/pools", "negatives/hidden_true"} <= steps[-1].keys()
    for stage in range(3):
        losses = [line["loss"] for line in steps[STEPS * stage :][:STEPS]]
        assert sum(losses[-3:]) < sum(losses[:3])


# In the middle of each stage's epochs, at a validation, and at the end of a stage.
@pytest.mark.parametrize("step", [3, 8, 10, 14, 15, 24, 27, 30])
def test_stopped_by_a_signal_and_resumed_is_as_if_unbroken(step: int, unbroken: Any, tmp_path: Path):
    run = KBGANRun(tmp_path)

    def ask() -> None:
        run.runtime.stop_signal = signal.SIGTERM

    run.trainer.trackers = [*run.trainer.trackers, Trigger(step - 1, ask)]
    with pytest.raises(Stopped) as stopped:
        fit(run)
    assert stopped.value.signal == signal.SIGTERM
    assert run.trainer.cursor.step == step
    assert_same(resume(KBGANRun(tmp_path)), unbroken[1])
    assert lines_of(tmp_path) == unbroken[0]


# Every fourth step after a checkpoint, and each validation, makes one.
@pytest.mark.parametrize(
    ("step", "last_good"), [(2, None), (5, 4), (9, 5), (10, 9), (12, 10), (18, 15), (26, 25), (30, 29)]
)
def test_crashed_past_its_last_checkpoint_and_resumed(step: int, last_good: int | None, unbroken: Any, tmp_path: Path):
    def crash() -> None:
        raise Crash

    run = KBGANRun(tmp_path, checkpoint_minutes=3.0)
    run.trainer.trackers = [*run.trainer.trackers, Trigger(step, crash)]
    with pytest.raises(Crash):
        fit(run)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # cut off as the process died
    again = KBGANRun(tmp_path, checkpoint_minutes=3.0)
    if last_good is None:
        with pytest.raises(InputError, match="resume: no checkpoint at"):
            resume(again)
        return
    checkpoint = find_checkpoint(tmp_path, "latest", "resume")
    assert again.trainer.checkpointer.read_manifest(checkpoint)["cursor"]["step"] == last_good
    assert_same(resume(again), unbroken[1])
    assert lines_of(tmp_path) == unbroken[0]


def test_the_spread_of_rewards_is_that_of_the_batch(tmp_path: Path):
    run = KBGANRun(tmp_path)
    run.sampler.normalise_reward = True
    with pytest.MonkeyPatch.context() as patch:
        seen: list[Reward] = []
        patch.setattr(run.sampler, "feedback", lambda batch, negatives, reward: seen.append(reward))
        run.trainer.train_step(run.trainer.stages[-1], 0)
    assert float(normalised(seen[0]).value.std(correction=0)) == pytest.approx(1, rel=1e-9)
    assert seen[0].mean == pytest.approx(float(seen[0].value.mean()), rel=1e-9)


@pytest.mark.parametrize("baseline", [RunningMean(0.9), LeaveOneOut(), PerQuery(0.9)])
def test_every_baseline_is_resumed(baseline: Any, tmp_path: Path):
    expected = fit(KBGANRun(tmp_path / "unbroken", baseline=baseline))
    run = KBGANRun(tmp_path / "broken", baseline=baseline)

    def ask() -> None:
        run.runtime.stop_signal = signal.SIGINT

    run.trainer.trackers = [*run.trainer.trackers, Trigger(26, ask)]
    with pytest.raises(Stopped):
        fit(run)
    assert_same(resume(KBGANRun(tmp_path / "broken", baseline=baseline)), expected)


def test_a_run_goes_on_in_another_folder(unbroken: Any, tmp_path: Path):
    run = KBGANRun(tmp_path / "first", valid_every=1)
    # After the stage's best validation: the best checkpoint lies in the first folder.
    scores = iter([0.9, 0.1] * 3)
    run.trainer.validation.evaluator = evaluator = ScriptedEvaluator(run, scores)

    def ask() -> None:
        run.runtime.stop_signal = signal.SIGTERM

    run.trainer.trackers = [*run.trainer.trackers, Trigger(27, ask)]
    with pytest.raises(Stopped):
        fit(run)
    best = evaluator.seen[-1]
    again = KBGANRun(tmp_path / "second")
    again.trainer.validation.evaluator = ScriptedEvaluator(again, scores)
    found = resume(again, tmp_path / "first")
    assert found["discriminator entity"].equal(best["discriminator entity"])
    assert again.trainer.cursor.finished["adversarial"] == 25


def test_a_finished_run_resumes_to_nothing(unbroken: Any, tmp_path: Path):
    expected = fit(KBGANRun(tmp_path))
    assert_same(resume(KBGANRun(tmp_path)), expected)
    assert lines_of(tmp_path) == unbroken[0]


# Validations at 2 and 4 of each stage's epochs, and at its end: at 3, which the longer run would not have, or at 4.
@pytest.mark.parametrize("shorter", [3, 4])
@pytest.mark.parametrize("best", ["at the shorter end", "before"])
def test_a_finished_run_goes_on_to_more_epochs_as_if_unbroken(shorter: int, best: str, tmp_path: Path):
    def run(folder: str, epochs: int, mrr: list[float]) -> KBGANRun:
        made = KBGANRun(tmp_path / folder, epochs=epochs, valid_every=2, patience=3)
        made.trainer.stages[0].__dict__["epochs"] = made.trainer.stages[1].__dict__["epochs"] = 2
        made.trainer.validation.evaluator = ScriptedEvaluator(made, mrr)
        return made

    at_2, at_4, at_6 = (0.4, 0.5, 0.3) if best == "at the shorter end" else (0.4, 0.2, 0.3)
    expected = fit(unbroken := run("unbroken", 6, [0.1, 0.1, at_2, at_4, at_6]))
    at_end = [at_2, 0.9 if best == "at the shorter end" else 0.1] if shorter == 3 else [at_2, at_4]
    fit(run("broken", shorter, [0.1, 0.1, *at_end]))
    again = run("broken", 6, [at_4, at_6] if shorter == 3 else [at_6])
    assert_same(resume(again), expected)
    assert again.trainer.cursor.finished == unbroken.trainer.cursor.finished
    steps = [[line for line in lines_of(tmp_path / name) if "loss" in line] for name in ("unbroken", "broken")]
    assert steps[0] == steps[1]
    kept = [{path.name for path in (tmp_path / name / "checkpoints").iterdir()} for name in ("unbroken", "broken")]
    assert kept[0] == kept[1]


def test_a_checkpoint_from_before_large_graphs_were_shuffled_in_sections_is_refused(tmp_path: Path):
    fit(KBGANRun(tmp_path, epochs=1))
    run = KBGANRun(tmp_path, epochs=1)
    run.trainer.saver.manifest = {**run.trainer.saver.manifest, "order": "sections"}
    said = f"resume: order is sections in this run, but that of an earlier version in {tmp_path}"
    with pytest.raises(InputError, match=said):
        resume(run)


@pytest.mark.parametrize("key", ["seed", "graph", "trainer.metric"])
def test_resuming_something_else_names_what_differs(key: str, tmp_path: Path):
    fit(KBGANRun(tmp_path, epochs=1))
    run = KBGANRun(tmp_path, epochs=1)
    run.trainer.saver.manifest = {**run.trainer.saver.manifest, key: "other"}
    with pytest.raises(InputError, match=f"resume: {key} is other in this run, but .* in {tmp_path}"):
        resume(run)


@pytest.mark.parametrize("state", [{}, {"baseline": torch.zeros(3, dtype=torch.float64)}])
def test_a_state_of_another_make_is_refused(state: dict[str, Tensor], tmp_path: Path):
    run = KBGANRun(tmp_path, valid_every=0)
    run.sampler.state = lambda: state

    def ask() -> None:
        run.runtime.stop_signal = signal.SIGTERM

    run.trainer.trackers = [*run.trainer.trackers, Trigger(22, ask)]
    with pytest.raises(Stopped):
        fit(run)
    with pytest.raises(InputError, match="holds a state that the sampler of the adversarial stage can't take"):
        resume(KBGANRun(tmp_path))


class ScriptedEvaluator:
    """Gives these validation metrics one after the other, and remembers the parameters that it saw."""

    def __init__(self, run: KBGANRun, values: Any, metric: str = "mrr") -> None:
        self.run = run
        self.values = iter(values)
        self.metric = metric
        self.seen: list[dict[str, Tensor]] = []

    def evaluate(self, *_: Any) -> Any:
        from trainer.evaluate import RankingMetrics

        self.seen.append(self.run.parameters())
        value = next(self.values)
        return RankingMetrics(both={"mrr": 1 - value, self.metric: value}, head={}, tail={})


def test_a_stage_ends_when_validation_stops_rising(tmp_path: Path):
    run = KBGANRun(tmp_path, epochs=9, patience=2)
    mrr = [0.1, 0.3, 0.2, 0.3, *[0.5, 0.4, 0.6, 0.1, 0.1], *[0.2, 0.2, 0.1]]
    run.trainer.validation.evaluator = evaluator = ScriptedEvaluator(run, mrr)
    fit(run)
    assert len(evaluator.seen) == len(mrr)
    assert run.trainer.cursor.finished == {"pretrain_generator": 10, "pretrain_discriminator": 35, "adversarial": 50}


def test_another_metric_chooses_the_best_ends_a_stage_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    seen: list[float] = []

    class Schedule(Constant):
        def validated(self, metric: float) -> None:
            seen.append(metric)

    run = KBGANRun(tmp_path, epochs=9, patience=2, metric="hits@10", schedule=Schedule(warm_up=0.0))
    values = [0.1, 0.3, 0.2, 0.3, *[0.5, 0.4, 0.6, 0.1, 0.1], *[0.2, 0.2, 0.1]]  # the MRR falls as it rises
    run.trainer.validation.evaluator = ScriptedEvaluator(run, values, "hits@10")
    with caplog.at_level(logging.INFO, logger="trainer"):
        fit(run)
    assert run.trainer.cursor.finished == {"pretrain_generator": 10, "pretrain_discriminator": 35, "adversarial": 50}
    assert run.trainer.cursor.best_value == 0.2
    assert seen == values
    said = [record.getMessage() for record in caplog.records if record.name == "trainer.loop"]
    assert said[1:3] == [
        "pretrain_generator epoch 2 of 9: validation hits@10 0.3000 (best)",
        "pretrain_generator epoch 3 of 9: validation hits@10 0.2000",
    ]
    validations = [line for line in lines_of(tmp_path) if "valid/mrr" in line]
    assert [line["valid/hits@10"] for line in validations] == values
    assert [line["valid/mrr"] for line in validations] == [1 - value for value in values]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stage_ends_with_its_best_parameters(stage: int, tmp_path: Path):
    run = KBGANRun(tmp_path, epochs=3)
    mrr = [0.1, 0.2, 0.3] * 3
    mrr[3 * stage : 3 * stage + 3] = [0.1, 0.9, 0.3]
    run.trainer.validation.evaluator = evaluator = ScriptedEvaluator(run, mrr)
    parameters = fit(run)
    # What was trained is back at the second validation: seen after the stage, or at the next stage's first validation.
    trained = "generator" if stage == 0 else "discriminator"
    kept = [key for key in parameters if key.startswith(trained)]
    best, last = evaluator.seen[3 * stage + 1], evaluator.seen[3 * stage + 2]
    assert not any(best[key].equal(last[key]) for key in kept)
    after = parameters if stage == 2 else evaluator.seen[3]
    if stage != 1:
        assert_same({key: after[key] for key in kept}, {key: best[key] for key in kept})
    folder = tmp_path / "checkpoints"
    name = run.trainer.stages[stage].name
    pointed = json.loads((folder / f"best_{name}.json").read_text())["checkpoint"]
    assert pointed == f"step_{15 * stage + 10:09d}_stage_{stage}"
    fresh = KBGANRun(tmp_path / "fresh")
    fresh.trainer.checkpointer.load(folder / pointed, fresh.trainer.players)
    assert_same({key: fresh.parameters()[key] for key in kept}, {key: best[key] for key in kept})


def test_only_wanted_checkpoints_stay(tmp_path: Path):
    run = KBGANRun(tmp_path, checkpoint_minutes=1.0)
    fit(run)
    folders = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    assert len(folders) <= 2 + 3  # the last two, and the best of each stage
    for path in folders:
        run.trainer.checkpointer.read_manifest(path)


class SpoiledLoss(Loss):
    """A hinge that gives `value` at one of its calls."""

    def __init__(self, call: int, value: float) -> None:
        super().__init__()
        self.plain = MarginRanking(3.0)
        self.left = call
        self.value = value

    def forward(self, scores: Scores) -> Tensor:
        self.left -= 1
        return self.plain(scores) + (self.value if self.left == 0 else 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("call", "stage"), [(3, "pretrain_discriminator"), (STEPS + 7, "adversarial")])
def test_a_loss_that_is_no_number_stops_before_the_update(value: float, call: int, stage: str, tmp_path: Path):
    run = KBGANRun(tmp_path, loss=SpoiledLoss(call, value))
    before: list[dict[str, Tensor]] = []
    last_step = STEPS + call - 1
    run.trainer.trackers = [*run.trainer.trackers, Trigger(last_step, lambda: before.append(run.parameters()))]
    with pytest.raises(InputError) as error:
        fit(run)
    assert str(error.value).startswith(
        f"the loss is {value} at step {last_step + 1}, epoch {(call - 1) % STEPS // 5} of the {stage} stage; "
        "nothing was updated"
    )
    assert_same(run.parameters(), before[-1])


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_scores_that_are_no_numbers_stop_the_run(player: str, tmp_path: Path):
    run = KBGANRun(tmp_path)
    stage = run.trainer.stages[2]
    before = run.parameters()[f"{'discriminator' if player == 'generator' else 'generator'} entity"]
    with torch.no_grad():
        run.trainer.players[player].model.scorer.relation.fill_(math.nan)
    with pytest.raises(
        InputError, match="generator's log-probability is nan" if player == "generator" else "loss is nan"
    ):
        run.trainer.train_step(stage, 0)
    assert run.parameters()[f"{'discriminator' if player == 'generator' else 'generator'} entity"].equal(before)


def test_wrong_options_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"trainer\.log_every must be at least 1, got 0"):
        KBGANRun(tmp_path, log_every=0)
    for wrong in (-0.5, math.nan, math.inf):
        with pytest.raises(InputError, match=f"trainer.checkpoint_minutes must be at least 0 and finite, got {wrong}"):
            KBGANRun(tmp_path, checkpoint_minutes=wrong)


@pytest.mark.parametrize("option", ["epochs", "valid_every", "patience"])
def test_wrong_options_of_a_stage_are_named(option: str, tmp_path: Path):
    with pytest.raises(InputError, match=f"{option} of the adversarial stage must be at least 0, got -1"):
        replace(KBGANRun(tmp_path).trainer.stages[2], **{option: -1})


def run_on(rank: int, world_size: int, folder: Path) -> list[dict[str, Tensor]]:
    """A small run in float64 and one in float32; the chunks of a step are fewer than three ranks."""
    found = []
    for dtype, chunk_size in ((torch.float64, 64), (torch.float32, 1)):
        runtime = Runtime(rank, world_size, torch.device("cpu"))
        run = KBGANRun(folder / str(dtype), runtime=runtime, dtype=dtype, epochs=1, chunk_size=chunk_size)
        found.append(fit(run))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_same_run_at_every_number_of_ranks(world_size: int, tmp_path: Path):
    alone = run_on(0, 1, tmp_path / "alone")
    together = run_on_ranks(world_size, run_on, tmp_path / "together")
    for number, (dtype, tolerance) in enumerate(((torch.float64, 1e-9), (torch.float32, 1e-4))):
        expected, found = (lines_of(tmp_path / which / str(dtype)) for which in ("alone", "together"))
        assert len(found) == len(expected) == 3 * (5 + 1)
        for line, other in zip(expected, found, strict=True):
            assert line.keys() == other.keys()
            for key, value in line.items():
                if key.startswith("valid/") or not isinstance(value, float):
                    assert other[key] == value, key  # digests, and metrics that come of integer counts
                else:
                    assert other[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key
        for each in together:
            for key, value in alone[number].items():
                assert torch.allclose(each[number][key], value, rtol=tolerance, atol=tolerance), key


def test_the_bar_shows_no_validation_before_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[float | None] = []
    monkeypatch.setattr(
        "trainer.loop.Progress.advance", lambda _, positives, **fields: shown.append(fields["best valid/mrr"])
    )
    run = KBGANRun(tmp_path, epochs=2)
    run.trainer.validation.evaluator = ScriptedEvaluator(run, [0.25, 0.5] * 3)
    fit(run)
    of_a_stage = [*[None] * 5, *[0.25] * 5]
    assert shown == of_a_stage * 3


class Curious(BernoulliSampler):
    """Learns nothing but what the trainer says of the whole batch."""

    means: dict[str, float]

    def statistics(self) -> Mapping[str, Statistic]:
        return {"loss": lambda reward, positive, negative: (positive[:, None] - negative).mean(1)}

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        self.means = dict(reward.means)


def test_a_new_statistic_touches_only_the_sampler_that_wants_it(tmp_path: Path):
    run = KBGANRun(tmp_path)
    sampler = Curious(run.sampler.context, num_negatives=3, mask_known=False, redraw_known=False)
    stage = replace(run.trainer.stages[-1], sampler=sampler, order=order_of(run.graph, sampler, batch_size=128))
    step = run.trainer.train_step(stage, stage.order.steps_per_epoch - 1)  # a batch that is filled up
    gap = (step.verdict.positive[:, None] - step.verdict.negative).mean(1)
    assert sampler.means == {"loss": pytest.approx(float((gap * step.batch.weight).sum() / step.batch.global_weight))}
    assert step.loss == pytest.approx(step.verdict.loss.item())  # whatever names a sampler takes


class Named(Trigger):
    """A tracker that has given the run an id."""

    run_id = "abc"


def test_the_trackers_id_outlives_a_session_without_it(tmp_path: Path):
    def ask() -> None:
        run.runtime.stop_signal = signal.SIGTERM

    run = KBGANRun(tmp_path)
    run.trainer.trackers = [*run.trainer.trackers, Named(12, ask)]
    with pytest.raises(Stopped):
        fit(run)
    again = KBGANRun(tmp_path)
    resume(again)
    checkpoint = find_checkpoint(tmp_path, "latest", "resume")
    assert again.trainer.checkpointer.read_manifest(checkpoint)["tracker_run_id"] == "abc"
