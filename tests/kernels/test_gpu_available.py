"""When the GPU's kernels are used, and what is said where they are not."""

import importlib.util

import pytest
import torch

from kernels.gpu import available
from kernels.gpu.available import has_triton, usable_on_gpu


@pytest.fixture(autouse=True)
def _asked_anew():
    for asked in (has_triton, available._is_new):
        asked.cache_clear()
    yield
    for asked in (has_triton, available._is_new):
        asked.cache_clear()


def test_triton_is_here():
    pytest.importorskip("triton", reason="Triton is not installed, so the GPU's kernels are not tested")


def test_tensors_of_the_cpu_are_not_for_them():
    assert not usable_on_gpu(torch.zeros(3))


def test_without_triton_it_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(available, "_DEVICE", "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not usable_on_gpu(torch.zeros(3))
    assert not usable_on_gpu(torch.zeros(3))
    (message,) = caplog.messages
    assert message.startswith("Triton is not installed: plain torch is used on the GPU, which is slower")


def test_a_gpu_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(available, "_DEVICE", "cpu")
    monkeypatch.setattr(available, "has_triton", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not usable_on_gpu(torch.zeros(3))
    (message,) = caplog.messages
    assert message == "cpu is not an NVIDIA GPU of compute capability 8.0 or later: plain torch is used"
    available._is_new.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert usable_on_gpu(torch.zeros(3))
    assert not usable_on_gpu(torch.zeros(3, dtype=torch.bfloat16))
