from collections.abc import Sequence
from pathlib import Path

import pytest

import kernels.library
from tests.pretended_gpu import configurations
from tests.pretended_gpu.configurations import CONFIGURATIONS, not_covered
from tests.pretended_gpu.drive import alone, train
from tests.pretended_gpu.matrix import MATRIX
from tests.pretended_gpu.pretending import pretended_gpu


def expect_like_the_cpu(options: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails unless a run on the pretended GPU is, to the bit, that of a CPU without compiled kernels."""
    with pretended_gpu():
        gpu = train(options, folder / "gpu", alone("cuda"))
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    cpu = train(options, folder / "cpu", alone("cpu"))
    assert gpu.steps == cpu.steps
    assert gpu.test == cpu.test
    assert gpu.saved.keys() == cpu.saved.keys()
    different = [name for name, value in cpu.saved.items() if not gpu.saved[name].equal(value)]
    assert not different
    assert {line["step"] for line in cpu.steps} >= {3, 6}, "both epochs have steps"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_trains_evaluates_and_resumes_like_the_cpu(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expect_like_the_cpu(CONFIGURATIONS[name], tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_of_many_more_options(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expect_like_the_cpu(MATRIX[name], tmp_path, monkeypatch)


def test_every_sampler_loss_scoring_function_and_optimiser_is_among_them():
    assert not (missing := not_covered()), f"add {', '.join(missing)} to a run of {configurations.__file__}"


def test_a_new_file_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "loss").mkdir()
    for name in ("softmax", "brand_new"):
        (tmp_path / "loss" / f"{name}.yaml").touch()
    monkeypatch.setattr(configurations, "CONF", tmp_path)
    assert not_covered() == ["loss=brand_new"]
