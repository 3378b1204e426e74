"""The modelled rate on a GPU: what it counts of a step, and what it makes of that."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import benchmarks.gpu_model
from benchmarks.gpu_model import CASES, Modelled, rate_of, table
from benchmarks.gpu_work import Kernels, StepWork, work_of_step
from benchmarks.h100 import H100

MICRO = 1e-6
POOL = ("generator=uniform", "generator.num_negatives=32", "trainer.chunk_size=64", "optimizer=rowwise_adagrad")
COMPLEX = (*POOL, "discriminator=complex", "loss=softmax", "trainer.sides=both")
# Easy to compute with.
DEVICE = replace(H100, flops={torch.float32: 1e9}, memory=1e9, cache=2e9, reached=1.0, shortest=MICRO, launch=2 * MICRO)
DEVICE = replace(DEVICE, triton_launch=3 * MICRO, wait=10 * MICRO)


def test_what_bounds_each_kernel():
    kernels = [
        Kernels("many", 4, memory=100.0),
        Kernels("large", 1, memory=5000.0),
        Kernels("product", 2, flops=8000.0, memory=100.0),
        Kernels("loop", 1, flops=100.0, cache=14_000.0, is_triton=True),
    ]
    rate = rate_of(StepWork(kernels, waits=0, positives=40), DEVICE)
    expected = {"launch": 4 * MICRO, "memory": 5 * MICRO, "flops": 8 * MICRO, "cache": 7 * MICRO}
    assert rate.by == pytest.approx(expected)
    assert rate.host == pytest.approx((7 * 2 + 3) * MICRO)
    assert rate.device == pytest.approx(24 * MICRO)
    assert rate.step == rate.device  # the host is done earlier
    assert rate.bound() == "flops of the device"
    assert rate.longest[0][0] == "product"
    assert rate.a_second == pytest.approx(40 / (24 * MICRO))


def test_host_and_device_work_one_after_the_other_where_there_are_waits():
    work = StepWork([Kernels("one", 1)], waits=2, positives=1)
    rate = rate_of(work, DEVICE)
    assert rate.step == pytest.approx((2 + 1 + 20) * MICRO)
    assert rate.bound() == "launches on the host"


def test_a_step_that_is_one_graph_has_five_launches():
    device = replace(DEVICE, graph_launch=20 * MICRO)
    short, long = (rate_of(StepWork([Kernels("some", number)], waits=0, positives=1), device) for number in (10, 100))
    assert 1 / short.in_one_graph == pytest.approx((20 + 4 * 2) * MICRO)  # the host's time
    assert 1 / long.in_one_graph == pytest.approx((100 + 4) * MICRO)  # the device's


def test_bytes_and_operations_of_a_step_of_plain_torch(tmp_path: Path):
    work = work_of_step(COMPLEX, tmp_path, triton=False)
    assert work.launches[1] == 0
    assert work.launches[0] > 50
    assert work.positives == 320
    # Scores and both gradients of 640 queries, 32 negatives, 8 numbers; targets are few.
    products = [each for each in work.kernels if each.name == "bmm"]
    assert sum(each.flops for each in products) == pytest.approx(3 * 2 * 640 * 32 * 8, rel=0.2)
    assert all(each.memory > 0 for each in products)


def test_triton_launches_instead_of_torchs(tmp_path: Path):
    transe = ("discriminator=transe" if each == "discriminator=complex" else each for each in COMPLEX)
    options = (*transe, "discriminator.max_norm=null")
    plain, triton = (work_of_step(options, tmp_path / name, triton=name == "b") for name in ("a", "b"))
    assert triton.launches[0] < plain.launches[0]
    (contrast,) = (each for each in triton.kernels if each.name == "_contrast")
    assert contrast.is_triton
    assert contrast.flops == 2 * 3 * 640 * 32 * 8  # a difference, its absolute value, a sum; scores and gradient
    assert contrast.cache == 2 * 640 * 32 * 8 * 4


def test_dot_products_are_torchs_with_triton_too(tmp_path: Path):
    work = work_of_step(COMPLEX, tmp_path, triton=True)
    assert sum(each.flops for each in work.kernels if "bmm" in each.name) == 3 * 2 * 640 * 32 * 8
    assert [each.name for each in work.kernels if each.name in ("_weigh", "_contrast")] == ["_weigh"]


def test_the_table_says_what_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    work = StepWork([Kernels("one", 1, memory=5000.0)], waits=0, positives=40)  # 8 M/s
    monkeypatch.setattr(benchmarks.gpu_model, "work_of_step", lambda *_, **__: work)
    _, _, *lines = table([("slow", Modelled(COMPLEX, 7e6)), ("fast", Modelled(COMPLEX, 9e6))], DEVICE, 320, tmp_path)
    assert [line.partition(",")[0] for line in lines] == ["| slow", "| slow", "| fast", "| fast"]
    assert all("| 8.00 | reached: 7 | memory of the device (longest: one 5 us) | 2.22 |" in line for line in lines[:2])
    assert all("| 8.00 | missed: 9 |" in line for line in lines[2:])
    assert {name.split()[0] for name in CASES} == {"ComplEx", "TransE", "KBGAN,"}
