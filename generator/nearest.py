"""Nearest-neighbour negatives (Kotnis and Nastase, Analysis of the impact of negative sampling on link prediction in
knowledge graphs, arXiv 1708.06816): entities close to the one that they replace, in the space of a trained model."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.closest import METRICS, closest_entities
from generator.listed import ListedSampler
from generator.sampler import SamplerContext
from graph.batch import Batch
from graph.errors import InputError


class NearestSampler(ListedSampler):
    """Draws among the `list_size` entities whose rows were closest to the target's.

    The paper takes the rows of a trained model: pre-train (pretrain.discriminator.epochs) or load one
    (pretrain.discriminator.checkpoint), for of initial rows the neighbours mean nothing. The neighbours of a right
    answer are often right too, so train facts had better be masked. Every rank holds all lists, 4 bytes an entry: 23 MB
    for the 14,541 entities of FB15k-237 and 400 neighbours. Making them takes E^2 products of rows.

    Args:
        metric: what is close: "l2" distance, or the "dot" product.
        options: see `ListedSampler`.
    """

    def __init__(self, context: SamplerContext, *, metric: str, **options: Any) -> None:
        super().__init__(context, **options)
        if metric not in METRICS:
            raise InputError(f"generator.metric must be one of {', '.join(METRICS)}, got {metric!r}")
        self.metric = metric
        size, device = (context.num_entities, self.list_size), context.site.device
        self.closest = torch.zeros(size, dtype=torch.int32, device=device)

    def refresh(self, batch: Batch) -> None:
        """See `RefreshedSampler.refresh`."""
        self.closest = closest_entities(self.player, self.list_size, self.metric).sort(1).values.int()

    def lists(self, batch: Batch) -> Int64[Tensor, "B k"]:
        """The neighbours of each target."""
        return self.closest[batch.target].long()

    def made(self) -> dict[str, Tensor]:
        """All lists."""
        return {"closest": self.closest}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """See `RefreshedSampler.load_made`."""
        self.closest = made["closest"].to(self.closest)
