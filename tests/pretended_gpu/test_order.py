"""The order of an epoch that is laid out on the pretended GPU is that of the CPU."""

from dataclasses import fields

import pytest
import torch

from graph import sampling
from graph.sampling import PositiveOrder
from tests.pretended_gpu.device import CPU, GPU, on_gpu
from tests.pretended_gpu.pretending import pretended_gpu

PROBABILITY = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


def order(size: int, sides: str, chunk_size: int, device: torch.device) -> PositiveOrder:
    number = torch.arange(size, dtype=torch.int32)
    train = torch.stack([number * 7 % 64, number % 3, number], dim=1)
    sizes = {"batch_size": 12, "chunk_size": chunk_size}
    return PositiveOrder(train, PROBABILITY, **sizes, sides=sides, seed=3, device=device)


@pytest.mark.parametrize("sides", ["one", "both"])
@pytest.mark.parametrize(("size", "chunk_size", "section"), [(1, 4, 1 << 21), (50, 1, 1 << 21), (333, 3, 64)])
def test_batches_are_those_of_the_cpu(
    sides: str, size: int, chunk_size: int, section: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampling, "SECTION", section)
    on_cpu = order(size, sides, chunk_size, CPU)
    with pretended_gpu():
        gpu = order(size, sides, chunk_size, GPU)
        assert gpu.num_sections == on_cpu.num_sections == (1 if section > size else 6)
        # In an order of steps as after a resume: the draws that were made ahead are of another section.
        for step in (*range(2 * on_cpu.steps_per_epoch), 0, 5 * on_cpu.steps_per_epoch):
            mine, theirs = gpu.batch(step), on_cpu.batch(step)
            for field in fields(theirs):
                value, expected = getattr(mine, field.name), getattr(theirs, field.name)
                if isinstance(expected, torch.Tensor):
                    assert on_gpu.has(value)
                    assert value.dtype == expected.dtype and value.cpu().equal(expected), field.name
                else:
                    assert value == expected, field.name


def test_a_batch_takes_no_kernel_and_the_host_waits_once_an_epoch():
    with pretended_gpu() as counts:
        positives = order(200, "one", 3, GPU)
        counts.clear()
        positives.batch(0)
        assert counts.syncs.total() == 1
        counts.clear()
        for step in range(1, positives.steps_per_epoch):
            positives.batch(step).to(GPU)
        assert not counts.syncs and not counts.kernels


def test_what_is_looked_up_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="weights and states are looked up on the CPU, got cuda:0"):
        PositiveOrder(
            torch.zeros((1, 3), dtype=torch.int32),
            PROBABILITY,
            batch_size=1,
            chunk_size=1,
            sides="one",
            seed=0,
            weight=lambda head, *_: head.double(),
            device=GPU,
        )
