"""Steps of a stage as one CUDA graph: the host starts the kernels of a step at once, not one after the other.

A graph repeats what the GPU was asked to do while it was recorded: the same kernels, on the same memory, with the same
numbers of the host. No Python runs. So what differs between steps is in tensors that the host overwrites before
(`RepeatedBatch`, `StepNumbers`), and what a step changes on the host is done here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from embedding.model_optimizer import ModelOptimizer
from graph.batch import Batch
from graph.repeated_batch import RepeatedBatch
from graph.sampling import Sides
from graph.step_numbers import StepNumbers
from trainer.global_means import GlobalMeans, StepMeans
from trainer.stage import Stage

_WARM_UP = 3
"""Steps that run one kernel after the other, on the graph's memory, before one is recorded. They compile kernels and
let libraries ask for their work space, which is not allowed while a graph is recorded."""


class StepGraph:
    """Trains the steps of a stage whose batches are full; the first step of an epoch and others are the caller's.

    Args:
        stage: one that `why_not_repeated` has nothing against.
        run: a whole step of this batch, but for what is done on the host: it sets no learning rate, counts no step.

    Example: `graph.step(batch, factor) if graph.takes(batch) else run(batch)` trains a step.
    """

    def __init__(self, stage: Stage, means: GlobalMeans, run: Callable[[Batch], object]) -> None:
        self.stage = stage
        self._means = means
        self._run = run
        self._numbers = StepNumbers(stage.order.device)
        self._batch: RepeatedBatch | None = None
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recorded: StepMeans | None = None

    def takes(self, batch: Batch) -> bool:
        """Whether this is a full batch, without padding, and not the first of its epoch."""
        chunks = self.stage.order.chunks_per_batch * (2 if self._fixed_sides else 1)
        is_full = len(batch.chunk) == chunks and batch.global_weight == len(batch.head)
        return is_full and batch.step % self.stage.order.steps_per_epoch > 0

    def step(self, batch: Batch, lr_factor: float) -> None:
        """Trains a step. The first ones warm up; the next one is recorded and repeated, and so are all after it.

        Args:
            batch: one that `takes` is true of.
            lr_factor: the schedule's factor of the trained model's learning rates.
        """
        if self._batch is None:
            self._batch = RepeatedBatch.like(batch, self._numbers, fixed_sides=self._fixed_sides)
        self._batch.fill(batch)
        self._set_rates(lr_factor)
        self._numbers.begin()
        with self._reading_numbers():
            if self._warm < _WARM_UP:
                self._warm += 1
                self._run(self._batch)
            else:
                self._repeat(self._batch)
        for optimizer in self._optimizers:
            optimizer.steps += 1

    def _repeat(self, batch: RepeatedBatch) -> None:
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            # Other threads, such as those that write a checkpoint, may go on.
            with torch.cuda.graph(self._graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                self._run(batch)
            self._recorded = self._means.take_back()
        else:
            self.stage.sampler.count_repeated()
        assert self._recorded is not None
        self._graph.replay()
        self._means.repeated(self._recorded, batch.epoch)

    def _set_rates(self, lr_factor: float) -> None:
        trained, *others = self._optimizers
        trained.set_lr(lr_factor)
        for optimizer in others:
            optimizer.set_lr(1.0)

    @contextmanager
    def _reading_numbers(self) -> Iterator[None]:
        for optimizer in self._optimizers:
            optimizer.numbers = self._numbers
        try:
            yield
        finally:
            for optimizer in self._optimizers:
                optimizer.numbers = None

    @property
    def _optimizers(self) -> Sequence[ModelOptimizer]:
        sampler = self.stage.sampler
        of_sampler = [sampler.optimizer] if sampler.learns and sampler.optimizer is not None else []
        return [self.stage.player.optimizer, *of_sampler]

    @property
    def _fixed_sides(self) -> bool:
        return self.stage.order.sides == Sides.BOTH


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Within it, the GPU's work is on a stream of its own, as recording needs; nothing is on two streams at once."""
    outer, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(outer)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        outer.wait_stream(own)
