"""Rates of training and of ranking beside those wanted: `TRITON_INTERPRET=0 pytest tests/gpu -s`. None is asserted."""

import time
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_model import CASES
from tests.pretended_gpu.drive import alone, built
from trainer.step_graph import StepGraph, own_stream

pytestmark = pytest.mark.gpu
BATCH, WARM_UP, STEPS, RANKED = 4096, 10, 30, 4096


def seconds(work, device: torch.device) -> float:
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


@pytest.mark.parametrize("name", CASES)
def test_rates_are_printed(name, tmp_path: Path):
    runtime = alone("cuda")
    run, trainer = built((*CASES[name].options, f"trainer.batch_size={BATCH}"), tmp_path, runtime, epochs=2)
    stage = trainer.stages[-1]

    def steps(first: int, last: int) -> None:
        for number in range(first, last):
            trainer.train_step(stage, number)

    steps(0, WARM_UP)
    rate = STEPS * BATCH / seconds(lambda: steps(WARM_UP, WARM_UP + STEPS), runtime.device)
    graph = StepGraph(stage, trainer.means, partial(trainer.training_step.run, stage, lr_factor=1.0))
    full = [batch for batch in map(stage.order.batch, range(2 * stage.order.steps_per_epoch)) if graph.takes(batch)]

    def repeated(first: int, last: int) -> None:
        for batch in full[first:last]:
            graph.step(batch, 1.0)

    with own_stream(runtime.device):
        repeated(0, WARM_UP)
        of_graph = BATCH * len(full[WARM_UP:]) / seconds(lambda: repeated(WARM_UP, len(full)), runtime.device)
    evaluator, triples = run.evaluator(run.known_in_validation), run.graph.train[:RANKED].long()
    evaluator.ranks(run.discriminator, triples[:64])
    ranked = len(triples) / seconds(lambda: evaluator.ranks(run.discriminator, triples), runtime.device)
    print(f"\n{torch.cuda.get_device_name()}, {name}")
    print(f"  training: {rate / 1e6:.2f} M positives/s, wanted: {CASES[name].target / 1e6:g}")
    print(f"  as one CUDA graph: {of_graph / 1e6:.2f} M positives/s")
    print(f"  ranking: {ranked / 1e3:.1f} k triples/s, heads and tails")
    assert rate > 0
    assert ranked > 0
