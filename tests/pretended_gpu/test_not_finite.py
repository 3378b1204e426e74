"""A loss that is no number on the pretended GPU: the host does not wait to see it, and yet nothing moves with it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

import trainer.global_means
from discriminator.discriminator import Discriminator, Verdict
from embedding.model_optimizer import ModelOptimizer
from graph.batch import Batch, Negatives
from graph.errors import InputError
from tests.pretended_gpu.drive import alone, built, fit
from tests.pretended_gpu.pretending import pretended_gpu
from trainer.loop import Trainer
from trainer.manifest import load_manifest
from trainer.pointer import find_checkpoint

_ALONE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
RUNS = {
    "Adam, two models, limited norms": ("generator=kbgan", "generator.pool_size=8", "generator.dim=8", *_ALONE),
    "Adagrad, batch norm": (
        *("generator=uniform", "generator.num_negatives=1", "loss=one_vs_all", "optimizer=rowwise_adagrad"),
        *("discriminator=conve", "discriminator.scoring.height=2", "discriminator.scoring.num_filters=4"),
    ),
    "lazy Adam, clipped": ("generator=uniform", "loss=softmax", "optimizer=lazy_adam", "optimizer.clip_norm=0.01"),
}


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of all that a step moves: parameters, running statistics, and states of optimisers."""
    stage = trainer.stages[-1]
    tensors: dict[str, Tensor] = {}
    for who in (stage.player, stage.sampler):
        if who.model is not None and who.optimizer is not None:
            found = {"rows": who.model.learned_rows, **who.model.dense_tensors()}
            found |= who.optimizer.row_state | who.optimizer.dense_state()
            tensors |= {f"{who.model.name} {name}": value.detach().clone() for name, value in found.items()}
    return tensors


def plant(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, losses: Mapping[int, float]) -> list[dict[str, Tensor]]:
    """Replaces the losses of steps, counted from 0. Returns a list that gets the state before the first of them."""
    real, before = Discriminator.judge, []

    def judge(self: Discriminator, batch: Batch, negatives: Negatives) -> Verdict:
        verdict = real(self, batch, negatives)
        if batch.step not in losses:
            return verdict
        if not before:
            before.append(state_of(trainer))
        return replace(verdict, loss=verdict.loss * losses[batch.step])

    monkeypatch.setattr(Discriminator, "judge", judge)
    return before


@pytest.mark.parametrize("name", RUNS)
def test_nothing_moves_and_the_first_bad_step_is_named(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pretended_gpu():
        # The means are read at the end of each epoch only.
        _, run = built((*RUNS[name], "trainer.log_every=1000"), tmp_path, alone("cuda"), epochs=2)
        epoch = run.stages[-1].order.steps_per_epoch
        assert epoch > 2
        before = plant(monkeypatch, run, {epoch: math.nan, epoch + 1: math.inf})
        with pytest.raises(InputError) as error:
            fit(run, tmp_path)
        after = state_of(run)
        changed = [key for key, value in before[0].items() if not after[key].equal(value)]
    stage = run.stages[-1].name
    assert str(error.value).startswith(
        f"the loss is nan at step {epoch + 1}, epoch 1 of the {stage} stage; nothing was updated with it"
    )
    assert not changed
    assert run.cursor.step == run.cursor.stage_step == epoch
    saved = find_checkpoint(tmp_path, "latest", "run")
    assert load_manifest(saved)["cursor"]["step"] == epoch  # of the validation after the first epoch


def test_without_the_guard_it_would_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ModelOptimizer, "good", property(lambda self: None, lambda self, value: None), raising=False)
    with pretended_gpu():
        _, run = built(RUNS["lazy Adam, clipped"], tmp_path, alone("cuda"), epochs=1)
        before = plant(monkeypatch, run, {0: math.nan})
        with pytest.raises(InputError, match="the loss is nan at step 1"):
            fit(run, tmp_path)
        after = state_of(run)
        assert any(not after[key].equal(value) for key, value in before[0].items())


@pytest.mark.parametrize(("log_every", "most"), [(2, 1000), (1000, 2)])
def test_the_host_reads_when_a_line_is_due_or_many_steps_are_unread(
    log_every: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer.global_means, "_MOST", most)
    options = *RUNS["lazy Adam, clipped"], f"trainer.log_every={log_every}", "trainer.valid_every=0"
    with pretended_gpu() as counts:
        _, run = built(options, tmp_path, alone("cuda"), epochs=1)
        fit(run, tmp_path)
        reads = sum(number for line, number in counts.syncs.items() if line.startswith("trainer/global_means.py"))
    assert reads == math.ceil(run.cursor.step / 2)
