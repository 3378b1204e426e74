"""`trainer.deterministic` on the pretended GPU, which refuses what CUDA refuses then."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from graph.errors import InputError
from kernels.largest import largest
from tests.pretended_gpu.configurations import CONFIGURATIONS
from tests.pretended_gpu.device import GPU
from tests.pretended_gpu.drive import alone, built, fit, saved_in
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.refusals import RefusedError
from trainer.determinism import repeatable
from trainer.loop import Trainer

QUICK = ("kbgan", "nscaching")
"""Draws by cumulative sums, and by the largest of a pool."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # which is taken back, also if a test sets it
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CONFIGURATIONS]
)
def test_no_step_needs_what_cuda_can_not_repeat(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    step = Trainer.train_step

    def noting(*given, **options):
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return step(*given, **options)

    monkeypatch.setattr(Trainer, "train_step", noting)
    train((*CONFIGURATIONS[name], "trainer.deterministic=true"), tmp_path)
    assert set(seen) == {(True, ":4096:8")}
    assert not torch.are_deterministic_algorithms_enabled()


def train(options: tuple[str, ...], folder: Path) -> dict[str, Tensor]:
    """Trains an epoch on the pretended GPU; returns the last checkpoint's tensors."""
    with pretended_gpu():
        _, trainer = built(options, folder, alone("cuda"), epochs=1)
        fit(trainer, folder)
    return saved_in(folder)


@pytest.mark.slow
def test_whole_numbers_add_up_to_the_same_draws(tmp_path: Path):
    one, other = (
        train((*CONFIGURATIONS["kbgan"], f"trainer.deterministic={wanted}"), tmp_path / wanted)
        for wanted in ("true", "false")
    )
    assert all(one[key].equal(value) for key, value in other.items())


def test_a_cumulative_sum_and_topk_are_refused():
    with pretended_gpu(), repeatable(alone("cuda"), True):
        value = torch.ones((2, 3), device=GPU)
        assert value.long().cumsum(1).shape == value.shape
        for wrong in (lambda: value.cumsum(1), lambda: value.topk(2, dim=1), lambda: value.median(1)):
            with pytest.raises(RefusedError, match="is not deterministic"):
                wrong()
        value[0, 1] = 2
        assert largest(value, 2).tolist() == [[1, 0], [0, 1]]


def test_a_cpu_and_a_run_that_did_not_ask_keep_torch_as_it_is():
    with pretended_gpu():
        for runtime, wanted in ((alone("cpu"), True), (alone("cuda"), False)):
            with repeatable(runtime, wanted):
                assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_another_workspace_of_cublas_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    message = r"^trainer.deterministic=true needs .* CUBLAS_WORKSPACE_CONFIG to be :4096:8 or :16:8, .* got ':0:0'$"
    with pretended_gpu(), pytest.raises(InputError, match=message), repeatable(alone("cuda"), True):
        pass


def test_a_graph_of_steps_is_refused(tmp_path: Path):
    options = *CONFIGURATIONS["kbgan"], "trainer.deterministic=true", "trainer.cuda_graph=true"
    with pytest.raises(InputError, match=r"^trainer.deterministic=true and trainer.cuda_graph=true: "):
        built(options, tmp_path, alone("cpu"), epochs=1)
