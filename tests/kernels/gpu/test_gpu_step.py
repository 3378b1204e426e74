"""Whole training steps through Triton's kernels are the steps of plain torch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import kernels.gpu.available
import kernels.gpu.contrast
import kernels.gpu.pairs
import kernels.gpu.updates
import kernels.library
from discriminator.discriminator import Verdict
from discriminator.loss.log_sigmoid import LogSigmoid
from discriminator.loss.loss import Loss
from discriminator.loss.self_adversarial import SelfAdversarial
from embedding.scoring.distmult import DistMult
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transe import TransE
from graph.batch import Negatives
from tests.worlds import batch_of, families, lazy_adam, model_of, player_of, site_of

SCORINGS: dict[str, ScoringFunction] = {
    "TransE L1": TransE(4, norm=1, precision="float32"),
    "TransE L2": TransE(4, norm=2, precision="float32"),
    "DistMult": DistMult(4, precision="float32"),
    "RotatE": RotatE(4),
}


def train(name: str, loss: Loss, chunks: int) -> tuple[Verdict, Tensor, Tensor]:
    """The verdict of the second of two steps, and the rows that they led to, of entities and of relations."""
    model = model_of(site_of(families()), scoring=lambda _: SCORINGS[name])
    player = player_of(model, loss, lazy_adam)
    batch = batch_of(families().train[:4], heads=1, chunk_size=4 // chunks)
    batch = replace(batch, chunk=torch.arange(chunks))
    negatives = Negatives(
        torch.randint(families().num_entities, (chunks, 3), generator=torch.Generator().manual_seed(1))
    )
    for _ in range(2):
        verdict = player.judge(batch, negatives)
        player.learn(verdict)
    return verdict, model.entity.weight.detach(), model.scorer.relation.detach()


def noted(function: Callable, name: str, used: list[str]) -> Callable:
    def call(*given, **options):
        used.append(name)
        return function(*given, **options)

    return call


@pytest.mark.parametrize("name", SCORINGS)
@pytest.mark.parametrize(
    ("loss", "chunks", "kernel"),
    [
        (SelfAdversarial(2.0, 0.5), 1, "contrast"),  # 4 positives share their negatives
        (LogSigmoid(margin=2.0, reduction="sum"), 4, "pairs"),  # each has its own, and the loss has no kernel
    ],
    ids=["shared negatives", "own negatives"],
)
def test_steps_are_those_of_plain_torch(name: str, loss: Loss, chunks: int, kernel: str, monkeypatch):
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    plain = train(name, loss, chunks)
    monkeypatch.setattr(kernels.gpu.available, "_DEVICE", "cpu")
    monkeypatch.setattr(kernels.gpu.available, "_is_new", lambda device: True)
    used = []
    for module, function in (("contrast", "contrast"), ("pairs", "pair_scores"), ("updates", "adam")):
        place = getattr(kernels.gpu, module)
        monkeypatch.setattr(place, function, noted(getattr(place, function), module, used))
    on_gpu = train(name, loss, chunks)
    assert {kernel, "updates"} <= set(used)
    for field in ("loss", "reward", "positive", "negative"):
        torch.testing.assert_close(getattr(on_gpu[0], field), getattr(plain[0], field), rtol=1e-10, atol=1e-11)
    for mine, theirs in zip(on_gpu[1:], plain[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
