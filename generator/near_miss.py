"""Near-miss negatives (Kotnis and Nastase, Analysis of the impact of negative sampling on link prediction in knowledge
graphs, arXiv 1708.06816): entities that a trained model ranks about where it ranks the true one."""

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
    """Which ranks a window covers."""

    ABOVE = "above"
    """Those next above the positive's, then, where it is ranked too high for that, those next below."""
    AROUND = "around"
    """Those whose scores are closest to the positive's."""


def _above(score: Float64[Tensor, "B n"], positive: Float64[Tensor, "B 1"]) -> Float64[Tensor, "B n"]:
    gap = score - positive
    # Above the positive 1 for no gap and less for larger ones, but never below 0 as everything under it.
    return torch.where(gap >= 0, 1 / (1 + gap), gap)


def _around(score: Float64[Tensor, "B n"], positive: Float64[Tensor, "B 1"]) -> Float64[Tensor, "B n"]:
    return -(score - positive).abs()


class NearMissSampler(ListedSampler):
    """Draws from the window of `list_size` entities that were ranked next to the positive, for each side of each fact.

    The paper takes the ranks of a trained model: pre-train (pretrain.discriminator.epochs) or load one
    (pretrain.discriminator.checkpoint). Making the windows costs what a filtered ranking of train costs, 2 T E scores
    in float64, divided among the ranks; they take 8 T list_size bytes, partitioned over ranks (44 MB on FB15k-237 with
    20), and as much in a checkpoint. No method here meets more missing facts.

    Args:
        window: which ranks: "above" or "around".
        mask_known: leave train facts out of the windows, and out of the loss where a window had to be filled up.
        options: see `ListedSampler`.
    """

    def __init__(self, context: SamplerContext, *, window: str, **options: Any) -> None:
        super().__init__(context, **options)
        if window not in list(Window):
            raise InputError(f"generator.window must be one of {', '.join(Window)}, got {window!r}")
        self.prefer = _above if window == Window.ABOVE else _around
        self.keys = FactKeys(context.known)
        self.windows = KeyedRows(context.site, self.keys.num_keys, self.list_size)

    def refresh(self, batch: Batch) -> None:
        """See `RefreshedSampler.refresh`: each rank makes the windows that it keeps."""
        leave_out = self.context.known if self.mask_known else None
        for start in range(0, self.windows.block, _FACTS_AT_ONCE):  # equally often on a rank with fewer keys
            facts = self.keys.batch(self.windows.key[start : start + _FACTS_AT_ONCE])
            window = preferred_entities(self.player, facts, self.list_size, self.prefer, leave_out)
            self.windows.row[start : start + _FACTS_AT_ONCE] = window.sort(1).values.int()

    def lists(self, batch: Batch) -> Int64[Tensor, "B k"]:
        """The window of each positive."""
        return self.windows.fetch(self.keys.of(batch))

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The windows."""
        return {"windows": self.windows}
