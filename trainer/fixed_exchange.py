"""Decides whether the steps of a stage exchange rows in pieces of a fixed size. Nothing else decides this."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor

from discriminator.loss.table_loss import TableLoss
from embedding.fixed_pieces import ChunkShare, FixedPieces
from embedding.keyed_rows import KeyedRows
from embedding.model import KGEModel
from graph.batch import Batch
from graph.errors import InputError
from graph.partition import COUNTED, FIXED
from trainer.runtime import Runtime
from trainer.stage import Stage


class FixedExchange:
    """The tables and the keyed rows of a stage that ranks exchange in pieces of a fixed size, in its steps and nowhere
    else.

    Example:
        with exchange.step_of(batch):
            ...  # look-ups
            missed = exchange.take_missed()
            ...  # gradients
            exchange.settle(good)
    """

    def __init__(self, stage: Stage, runtime: Runtime) -> None:
        self._tables = [model.entity for model in _models(stage)]
        self._sampler = stage.sampler
        self._runtime = runtime

    @classmethod
    def of(cls, stage: Stage, runtime: Runtime, *, observed: bool) -> "FixedExchange | None":
        """None if rows are exchanged with counts: `placement.exchange` says so, or it says nothing and the run is on
        the CPU, where counts cost nothing, or it is not possible.

        Args:
            observed: whether observers count what each step does.
        Raises:
            InputError: `placement.exchange` asks for it, and it is not possible.
        """
        asked = stage.player.model.site.placement.exchange
        if runtime.world_size == 1 or asked == COUNTED or (asked is None and runtime.device.type == "cpu"):
            return None
        reason = why_counted(stage, observed=observed)
        if reason is not None and asked == FIXED:
            raise InputError(
                f"placement.exchange is {FIXED}, but steps of the {stage.name} stage can't exchange rows in pieces of "
                f"a fixed size, because {reason}; take null, which does so where it is possible, or {COUNTED}"
            )
        if reason is not None:
            return None
        return cls(stage, runtime)

    @contextmanager
    def step_of(self, whole: Batch) -> Iterator[None]:
        """Within it, rows are exchanged in fixed pieces, unless a rank gets no chunk of this batch, or the sampler
        refreshes. In any case, what keyed rows store waits for `settle`.
        """
        chunks = whole.chunks_of_parts(self._runtime.world_size)
        is_fixed = min(chunks) > 0 and not self._sampler.refreshes(whole)
        share = ChunkShare(chunks[self._runtime.rank], max(chunks)) if is_fixed else None
        keyed, pieces = self._keyed, self._pieces
        try:
            for each in pieces:
                each.share = share
            for each in keyed:
                each.holds_back = True
            yield
        finally:
            for each in pieces:
                each.share = None
            for each in keyed:
                each.holds_back = False
                each.forget_held()

    @property
    def _keyed(self) -> list[KeyedRows]:
        """Those that the sampler has now: it may make others when a stage starts."""
        return list(self._sampler.keyed_rows().values())

    @property
    def _pieces(self) -> list[FixedPieces]:
        return [each.pieces for each in (*self._tables, *self._keyed)]

    def take_missed(self) -> Bool[Tensor, ""] | None:
        """Whether rows of this rank did not fit in the step's look-ups; None if it made none in fixed pieces."""
        found = [missed for pieces in self._pieces if (missed := pieces.take_missed()) is not None]
        return torch.stack(found).any() if found else None

    def settle(self, good: Bool[Tensor, ""] | None) -> None:
        """Ends a step: writes what it stored in keyed rows; see `KeyedRows.settle`."""
        for keyed in self._keyed:
            keyed.settle(good)

    def widen(self) -> None:
        """Gives look-ups more room. All ranks must call it together, before the step is made again."""
        for table in self._tables:
            table.widen()
        for keyed in self._keyed:
            keyed.pieces.widen()


def why_counted(stage: Stage, *, observed: bool) -> str | None:
    """The reason against pieces of a fixed size, as the end of a sentence "..., because"; None if there is none.

    Sizes must follow from the number of chunks, and whatever a step changes must be put back or left as it is, if its
    rows did not fit. So nothing may change that neither `ModelOptimizer.good` nor `KeyedRows.settle` guards and
    `NegativeSampler.undo` does not put back.
    """
    sampler, loss = stage.sampler, stage.player.loss
    if observed:
        return "quality=sampled counts on the host what each step scores"
    if stage.average is not None:
        return f"the average {type(stage.average).__name__} would count steps that are made again"
    if isinstance(loss, TableLoss):
        return f"the loss {type(loss).__name__} compares positives with all entities"
    if sampler.undo() is None:
        return (
            f"{type(sampler).__name__} with these options can't take a step back, or looks up rows of no fixed number"
        )
    if stage.player.model.site.placement.replicated and not sampler.keyed_rows():
        return "placement.storage is replicated, so that no rank asks for rows"
    return next((reason for model in _models(stage) if (reason := _why_not_model(model)) is not None), None)


def _why_not_model(model: KGEModel) -> str | None:
    placement = model.site.placement
    if placement.disk is not None:
        return "placement.storage is disk, and the shards in memory are those of few ranks"
    if model.encoding is not None or not model.has_vectors:
        return f"the rows of the {model.name} are made anew in each step"
    return None


def _models(stage: Stage) -> list[KGEModel]:
    return [stage.player.model, *([] if stage.sampler.model is None else [stage.sampler.model])]
