"""The losses of 20 steps of some fixed runs are the committed ones, so that no change of them goes unseen.

They are equal to the bit on a machine like the one that made them, with plain torch: another processor, torch or
compiled kernel may sum in another order, which moves the last digits and no more. A change that is meant renews them:

    pytest tests/launch/test_golden_loss.py --renew-golden
"""

import json
import platform
from pathlib import Path

import pytest
import torch

import kernels.library
from launch import train

FILE = Path(__file__).with_suffix(".json")
STEPS = 20
ROUNDING = 1e-11
"""Relative; a float64 sum of this size in another order moves by about 1e-15, and 20 steps carry it on."""

# Four steps an epoch. Options that change a loss are typed, so that another default changes nothing here.
COMMON = (
    "seed=7",
    "dtype=float64",
    "launch.device=cpu",
    "graph=synthetic",
    "recipe=none",
    "graph.num_people=100",
    "graph.hidden_share=0.1",
    "graph.valid_share=0.05",
    "graph.test_share=0.05",
    "graph.seed=0",
    "discriminator.max_norm=null",
    "discriminator.init_scale=0.3",
    "trainer.batch_size=448",
    "trainer.sides=one",
    "trainer.subsampling=false",
    "trainer.valid_every=5",
    "trainer.log_every=1",
)
RUNS = {
    # The three stages: 4 + 4 + 12 steps.
    "kbgan": (
        "generator=kbgan",
        "generator.dim=8",
        "generator.pool_size=8",
        "generator.num_negatives=1",
        "generator.temperature=1.0",
        "generator.optimizer.lr=0.01",
        "discriminator=transe",
        "discriminator.dim=8",
        "loss=margin_ranking",
        "loss.margin=3.0",
        "optimizer=adam",
        "optimizer.lr=0.01",
        "trainer.chunk_size=1",
        "trainer.epochs=3",
        "pretrain.generator.epochs=1",
        "pretrain.discriminator.epochs=1",
    ),
    "shared pool": (
        "generator=uniform",
        "generator.num_negatives=24",
        "generator.mask_known=true",
        "discriminator=complex",
        "discriminator.dim=8",
        "loss=softmax",
        "optimizer=rowwise_adagrad",
        "optimizer.lr=0.1",
        "trainer.chunk_size=64",
        "trainer.epochs=5",
    ),
    "cache": (
        "generator=nscaching",
        "generator.num_negatives=2",
        "generator.cache_size=6",
        "generator.fresh_size=6",
        "discriminator=rotate",
        "discriminator.dim=8",
        "loss=self_adversarial",
        "loss.margin=3.0",
        "loss.temperature=1.0",
        "optimizer=lazy_adam",
        "optimizer.lr=0.01",
        "trainer.chunk_size=1",
        "trainer.epochs=5",
    ),
}


def machine() -> str:
    """What the last digits depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    vendor = next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), platform.machine())
    return f"torch {torch.__version__}, {vendor}, {torch.backends.cpu.get_cpu_capability()}"


def losses_of(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [value for line in lines for key, value in line.items() if key.rpartition("/")[2] == "loss"]


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_of_before(name: str, compiled: bool, command, tmp_path, monkeypatch, pytestconfig):
    if not compiled:
        monkeypatch.setattr(kernels.library, "load", lambda: None)
    elif kernels.library.load() is None:
        pytest.skip("no kernels here")
    outcome = command(train, *COMMON, *RUNS[name], f"hydra.run.dir={tmp_path}/run")
    assert outcome.code == 0, outcome.errors
    losses = losses_of(tmp_path / "run")
    assert len(losses) == STEPS
    golden = json.loads(FILE.read_text())
    if pytestconfig.getoption("--renew-golden") and not compiled:
        golden = {"machine": machine(), "losses": golden["losses"] | {name: losses}}
        FILE.write_text(json.dumps(golden, indent=1) + "\n")
    expected = golden["losses"][name]
    if not compiled and golden["machine"] == machine():
        assert losses == expected
    assert losses == pytest.approx(expected, rel=ROUNDING, abs=0)
