"""A batch in fixed memory of a GPU, which a CUDA graph of a step reads: each step writes its own batch there."""

from dataclasses import dataclass

import torch

from graph.batch import Batch
from graph.counter_random import StreamKey, stream
from graph.step_numbers import StepNumbers
from kernels.queries import HeadRows


@dataclass(frozen=True)
class RepeatedBatch(Batch):
    """Has the contents of one full batch after the other, all of the same size and of one rank.

    What differs between them, besides tensors, is among the numbers of the step: how many positives have their head
    corrupted, unless that is always the same, and the keys of random numbers. Only `epoch`, `step` and `head_chunks`
    change with the batch, and only `fill` changes them.
    """

    numbers: StepNumbers | None = None
    """Never None."""
    fixed_sides: bool = False
    """Whether every batch has as many head chunks as this one, so that code may slice by `head_rows`."""

    @classmethod
    def like(cls, batch: Batch, numbers: StepNumbers, *, fixed_sides: bool) -> "RepeatedBatch":
        """A batch with memory of its own for batches like this one, whose positives must all have weight 1."""
        made = cls(
            **{name: torch.empty_like(getattr(batch, name)) for name in _COLUMNS},
            weight=torch.ones_like(batch.weight),
            **{name: getattr(batch, name) for name in _OF_EACH},
            **{name: getattr(batch, name) for name in ("chunk_size", "seed", "global_weight")},
            numbers=numbers,
            fixed_sides=fixed_sides,
        )
        made.__dict__["_anchor_and_target"] = batch.head.new_empty((2, len(batch.head)))
        return made

    def fill(self, batch: Batch) -> None:
        """Takes the contents of a batch, in two kernels."""
        own, given = ([getattr(each, name) for name in _COLUMNS] for each in (self, batch))
        torch._foreach_copy_(own, given)
        torch.cat(batch.anchor_and_target_parts, out=self._anchor_and_target.view(-1))
        for name in _OF_EACH:
            object.__setattr__(self, name, getattr(batch, name))

    @property
    def head_rows(self) -> int:
        """As that of `Batch`.

        Raises:
            RuntimeError: it differs between steps, so that a repeated step can't be made of slices.
        """
        if not self.fixed_sides:
            raise RuntimeError("a step that is repeated can't slice its batch by side: each batch has other sides")
        return super().head_rows

    @property
    def heads_for_kernels(self) -> HeadRows:
        """As that of `Batch`; a tensor on the GPU if it differs between steps."""
        if self.fixed_sides:
            return self.head_rows
        assert self.numbers is not None
        return self.numbers.integer(lambda: self.head_chunks * self.chunk_size)

    def _stream(self, purpose: str) -> StreamKey:
        assert self.numbers is not None
        return self.numbers.integer(lambda: stream(purpose, self.seed, self.epoch))


_COLUMNS = ("head", "relation", "tail", "chunk")
_OF_EACH = ("epoch", "step", "head_chunks")
