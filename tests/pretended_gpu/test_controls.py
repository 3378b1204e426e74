"""Faults are planted here, each of which must be found: otherwise the other tests of this folder say nothing."""

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import kernels.row_gradient
from embedding.exchange import add_over_ranks
from embedding.table import EmbeddingTable
from graph.batch import Batch
from tests.pretended_gpu.budgets import BUDGETS, OF_TWO_RANKS, complaint
from tests.pretended_gpu.collectives import nccl_rules
from tests.pretended_gpu.counting import Counts
from tests.pretended_gpu.drive import alone, count_steps
from tests.pretended_gpu.launches import triton_launches
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.refusals import RefusedError
from trainer.runtime import Runtime

BUDGET = BUDGETS["TransE L1, shared pool, self-adversarial"]
THIS = "tests/pretended_gpu/test_controls.py"


def step_with(folder: Path) -> Counts:
    with pretended_gpu() as counts:
        count_steps(BUDGET.options, folder, alone("cuda"), counts, steps=1)
    return counts


def second_line(function: Callable[..., object]) -> str:
    """Where the body of a planted function begins."""
    return f"{THIS}:{inspect.getsourcelines(function)[1] + 1}"


def test_item_in_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def share_of_mean(self: Batch, value: Tensor) -> Tensor:
        value.sum().item()
        return torch.dot(value.double(), self.weight) / self.global_weight

    monkeypatch.setattr(Batch, "share_of_mean", share_of_mean)
    said = complaint(step_with(tmp_path), 1, BUDGET)
    assert said is not None
    assert f"{BUDGET.syncs + 1} host syncs a step, and the budget is {BUDGET.syncs}" in said
    assert f"1 {second_line(share_of_mean)} _local_scalar_dense" in said


WAYS = (lambda it: it.tolist(), lambda it: it.cpu(), lambda it: it[it > 0], bool, float, torch.nonzero, torch.unique)


@pytest.mark.parametrize("reads", WAYS)
def test_other_ways_to_wait(reads):
    with pretended_gpu() as counts:
        value = torch.ones(1, device="cuda")
        counts.clear()
        reads(value)
        assert counts.syncs.total() == 1


def test_a_step_that_waits_less_lowers_its_budget():
    said = complaint(Counts(), 1, next(iter(OF_TWO_RANKS.values())))
    assert said is not None and "lower the budget" in said


def test_a_kernel_too_many():
    counts = Counts()
    counts.syncs["a.py:1 tolist"] = BUDGET.syncs
    counts.kernels["a.py:2 mul"] = BUDGET.kernels + 1
    said = complaint(counts, 1, BUDGET)
    assert said is not None and f"about {BUDGET.kernels + 1} kernels" in said and "a.py:2 mul" in said


def test_an_index_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = EmbeddingTable.look_up

    def look_up(self: EmbeddingTable, *entities: Tensor) -> object:
        self.weight[torch.arange(3)]
        return real(self, *entities)

    monkeypatch.setattr(EmbeddingTable, "look_up", look_up)
    with pytest.raises(RefusedError, match=rf"^{second_line(look_up)}, .*: index by an index on the other device"):
        step_with(tmp_path)


def test_a_table_that_stayed_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = EmbeddingTable.look_up

    def look_up(self: EmbeddingTable, *entities: Tensor) -> object:
        self.row_of_entity = self.row_of_entity.cpu()
        return real(self, *entities)

    monkeypatch.setattr(EmbeddingTable, "look_up", look_up)
    with pytest.raises(RefusedError, match=r"^embedding/table.py:\d+, .*: index_select of tensors on two devices"):
        step_with(tmp_path)


def test_a_batch_that_stayed_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(Runtime, "share", lambda self, batch: replace(batch, head=batch.head.cpu()))
    with pytest.raises(RefusedError, match=r"^graph/batch.py:\d+, .* of tensors on two devices"):
        step_with(tmp_path)


def test_a_kernel_of_the_cpu(compiled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(kernels.row_gradient, "usable", lambda *_: True)
    with pytest.raises(TypeError, match=r"group_rows: argument 1 must be a contiguous int64 tensor on the CPU, got .*"):
        step_with(tmp_path)


MIXED = {
    "add": lambda gpu, cpu: gpu + cpu,
    "matrix product": lambda gpu, cpu: gpu @ cpu,
    "cat": lambda gpu, cpu: torch.cat([gpu, cpu]),
    "stack with a number": lambda gpu, cpu: torch.stack([gpu.sum(), cpu.sum()]),
    "write to the CPU": lambda gpu, cpu: cpu.sum().add_(gpu.sum()),
    "index_add": lambda gpu, cpu: gpu.index_add_(0, torch.tensor([0], device="cuda"), cpu[:1]),
    "gather": lambda gpu, cpu: gpu.gather(1, torch.zeros(4, 1, dtype=torch.int64)),
    "searchsorted": lambda gpu, cpu: torch.searchsorted(cpu[0], gpu),
    "CPU by GPU index": lambda gpu, cpu: cpu[torch.tensor([0], device="cuda")],
    "numpy": lambda gpu, cpu: gpu.numpy(),
    "address": lambda gpu, cpu: gpu.data_ptr(),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_cuda_refuses(name):
    with pretended_gpu():
        gpu, cpu = torch.ones((4, 4), device="cuda"), torch.ones((4, 4))
        with pytest.raises(RefusedError, match=rf"^{THIS}:\d+, called at {THIS}:\d+: "):
            MIXED[name](gpu, cpu)


def test_what_cuda_takes():
    with pretended_gpu():
        gpu, number = torch.ones((4, 4), device="cuda"), torch.tensor(2.0)
        assert (gpu * number).is_cuda and torch.where(gpu > 0, gpu, number).is_cuda and gpu.to(torch.float64).is_cuda
        assert not gpu.cpu().is_cuda and gpu[0].device == torch.device("cuda", 0)
        gradient = torch.ones(4, 4).requires_grad_()
        (gradient.to("cuda") * gpu).sum().backward()
        assert gradient.grad is not None and gradient.grad.is_cpu
    assert torch.zeros(1).device.type == "cpu" and not torch.cuda.is_available()


def test_a_copy_from_pinned_memory_does_not_wait():
    with pretended_gpu() as counts:
        assert torch.ones(4).pin_memory().to("cuda", non_blocking=True).is_cuda
        assert not counts.syncs
        torch.ones(4).to("cuda", non_blocking=True)
        torch.ones(4).pin_memory().to("cuda")
        assert counts.syncs.total() == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: torch.ones((3, 2), device="cuda").t(), "a float32 tensor [2, 3] that is not contiguous"),
        (lambda: torch.ones(3, dtype=torch.int16, device="cuda"), "a int16 tensor [3], a type that NCCL does not"),
        (lambda: torch.ones(3, dtype=torch.bool, device="cuda"), "a bool tensor [3], a type that NCCL does not"),
        (lambda: torch.ones(3), "a float32 tensor [3] on the CPU"),
    ],
)
def test_a_collective_gets_what_nccl_refuses(given, said):
    with pretended_gpu(), nccl_rules(), pytest.raises(RefusedError) as refused:
        add_over_ranks(given())
    text = str(refused.value)
    assert text.startswith("embedding/exchange.py:") and f"called at {THIS}:" in text and said in text


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_a_kernel_of_triton_gets_another_layout_than_it_reads():
    import kernels.gpu.rows as gpu

    with pretended_gpu() as counts, triton_launches(counts):
        places, value = torch.tensor([0, 9, 1, 9, 0], device="cuda"), torch.ones((3, 2), device="cuda")
        sums = gpu.sums_of_few(places[::2].contiguous(), value, 2, torch.float32)
        assert sums.tolist() == [[2, 2], [1, 1]]
        said = r"^kernels/gpu/rows.py:\d+, called at tests/pretended_gpu/test_controls.py:\d+.*strides \(2,\)"
        with pytest.raises(RefusedError, match=said):
            gpu.sums_of_few(places[::2], value, 2, torch.float32)


def test_a_collective_whose_rules_nobody_wrote_down():
    with pretended_gpu(), nccl_rules(), pytest.raises(RefusedError, match=r"reduce_scatter_tensor is no collective"):
        dist.reduce_scatter_tensor(torch.ones(1, device="cuda"), torch.ones(2, device="cuda"))
