"""Near-miss negatives (Kotnis and Nastase, Analysis of the impact of negative sampling on link prediction in knowledge
graphs, arXiv 1708.06816): entities that a trained model ranks next to the true one."""

from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from embedding.preferred import preferred_entities
from generator.listed import ListedSampler
from generator.sampler import SamplerContext
from graph.batch import Batch
from graph.errors import InputError
from graph.keys import FactKeys

_FACTS_AT_ONCE = 512


class Window(StrEnum):
    """Which entities of the ranking are in a window."""

    ABOVE = "above"
    """Those ranked just above the positive. If there are too few, those just below it follow."""
    AROUND = "around"
    """Those whose scores are closest to the positive's, above or below."""


def _above(score: Float64[Tensor, "B n"], positive: Float64[Tensor, "B 1"]) -> Float64[Tensor, "B n"]:
    gap = score - positive
    # Scores above the positive's: from 1 (no gap) down to 0 (large gap). Scores below it: negative.
    return torch.where(gap >= 0, 1 / (1 + gap), gap)


def _around(score: Float64[Tensor, "B n"], positive: Float64[Tensor, "B 1"]) -> Float64[Tensor, "B n"]:
    return -(score - positive).abs()


class NearMissSampler(ListedSampler):
    """Draws from the `list_size` entities that the model ranked next to the positive (Kotnis and Nastase 2017).

    Each side of each train fact has such a list, its window. `propose` returns entities [B, N]. The paper uses the
    ranking of a trained model: pre-train (pretrain.discriminator.epochs) or load one
    (pretrain.discriminator.checkpoint).

    Making the windows for T train facts costs as much as a filtered ranking of train: 2 T E scores in float64, divided
    among the ranks. Windows take 8 x T x list_size bytes over all ranks together (44 MB on FB15k-237 with
    list_size=20), and as much in a checkpoint; and 8 x T bytes on every rank. Of all samplers here, this one draws the
    most missing facts.

    Args:
        window: "above" or "around", see `Window`.
        mask_known: keep train facts out of the windows. A window that has too few other entities still gets some, and
            the loss leaves these out.
        options: see `ListedSampler`.
    """

    def __init__(self, context: SamplerContext, *, window: str, **options: Any) -> None:
        super().__init__(context, **options)
        if window not in list(Window):
            raise InputError(f"generator.window must be one of {', '.join(Window)}, got {window!r}")
        self.prefer = _above if window == Window.ABOVE else _around
        self.keys = FactKeys(context.known)
        name = f"generator.list_size: windows of {self.list_size} entities for {self.keys.num_keys:,} facts and sides"
        self.windows = KeyedRows(
            context.site, self.keys.num_keys, self.list_size, name=name, num_ids=context.num_entities
        )

    def refresh(self, batch: Batch) -> None:
        """Each rank makes the windows that it stores; see `RefreshedSampler.refresh`."""
        leave_out = self.context.known if self.mask_known else None
        for start in range(0, self.windows.block, _FACTS_AT_ONCE):  # the same number of times on every rank
            key, order = self.windows.key[start : start + _FACTS_AT_ONCE].sort()
            window = preferred_entities(self.player, self.keys.batch(key), self.list_size, self.prefer, leave_out)
            self.windows.row[start + order] = window.sort(1).values.int()

    def lists(self, batch: Batch) -> Int64[Tensor, "B k"]:
        """The window of each positive."""
        return self.windows.fetch(self.keys.of(batch))

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The windows."""
        return {"windows": self.windows}
