"""Rounded products on the pretended GPU, which gives TF32 to every product while the process asks for it."""

from pathlib import Path

import pytest
import torch

import kernels.precision
from tests.pretended_gpu.drive import alone, built, fit
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.test_configurations import expect_like_the_cpu

_POOL = ("generator=uniform", "generator.num_negatives=16", "trainer.chunk_size=16")
RUNS = {
    "softmax": (*_POOL, "discriminator=complex", "loss=softmax"),
    "L2 distances": (*_POOL, "discriminator.scoring.norm=2", "loss=log_sigmoid"),
    "sampler with a model": (
        *("generator=kbgan", "generator.pool_size=8", "generator.dim=8", "trainer.chunk_size=16"),
        *("discriminator=distmult", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),
    ),
}


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "softmax")) for name in RUNS])
def test_the_same_products_are_rounded_as_on_the_cpu(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # A CPU with instructions for bfloat16 rounds products too; a GPU does not.
    monkeypatch.setattr(kernels.precision, "has_bfloat16", lambda: False)
    expect_like_the_cpu((*RUNS[name], f"discriminator.scoring.precision={precision}"), tmp_path, monkeypatch)


def test_tf32_changes_training_and_leaves_no_setting_behind(tmp_path: Path):
    losses = []
    for precision in ("float32", "tf32"):
        with pretended_gpu():
            _, trainer = built(
                (*RUNS["softmax"], f"discriminator.scoring.precision={precision}"),
                tmp_path / precision,
                alone("cuda"),
                epochs=1,
            )
            fit(trainer, tmp_path / precision)
            assert torch.backends.cuda.matmul.fp32_precision != "tf32"
        losses.append((tmp_path / precision / "metrics.jsonl").read_text())
    assert losses[0] != losses[1]


def test_a_process_that_asks_for_tf32_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `expect_like_the_cpu` is worth: with TF32 everywhere, ranking differs, and the test fails."""
    monkeypatch.setattr(kernels.precision, "has_bfloat16", lambda: False)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with pytest.raises(AssertionError):
            expect_like_the_cpu(RUNS["softmax"], tmp_path, monkeypatch)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
