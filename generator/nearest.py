"""Nearest-neighbour negatives (Kotnis and Nastase, Analysis of the impact of negative sampling on link prediction in
knowledge graphs, arXiv 1708.06816): entities whose embeddings are close to that of the replaced entity."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.closest import METRICS, closest_entities
from generator.listed import ListedSampler
from generator.refreshed import saved_entities
from generator.sampler import SamplerContext
from graph.batch import Batch
from graph.errors import InputError


class NearestSampler(ListedSampler):
    """Draws from the `list_size` entities whose embeddings are closest to that of the replaced entity.

    The method is that of Kotnis and Nastase (2017). `propose` returns entities [B, N]. The paper uses the embeddings of
    a trained model: pre-train (pretrain.discriminator.epochs) or load one (pretrain.discriminator.checkpoint), because
    neighbours of random initial embeddings mean nothing. Neighbours of a right answer are often right too, so leave
    `mask_known` on.

    Every rank holds all lists, 4 bytes an entry: 23 MB for the 14,541 entities of FB15k-237 and list_size=400. Making
    them compares all pairs of entities, E^2 products of rows.

    Args:
        metric: how closeness is measured: by "l2" distance or by "dot" product.
        options: see `ListedSampler`.
    """

    def __init__(self, context: SamplerContext, *, metric: str, **options: Any) -> None:
        super().__init__(context, **options)
        context.require_vectors()
        if metric not in METRICS:
            raise InputError(f"generator.metric must be one of {', '.join(METRICS)}, got {metric!r}")
        self.metric = metric
        size, device = (context.num_entities, self.list_size), context.site.device
        self.closest = torch.zeros(size, dtype=torch.int32, device=device)

    def refresh(self, batch: Batch) -> None:
        """See `RefreshedSampler.refresh`."""
        self.closest = closest_entities(self.player, self.list_size, self.metric).sort(1).values.int()

    def lists(self, batch: Batch) -> Int64[Tensor, "B k"]:
        """The neighbours of each target, ascending."""
        return self.closest[batch.target].long()

    def made(self) -> dict[str, Tensor]:
        """The lists of all entities."""
        return {"closest": self.closest}

    def load_made(self, made: Mapping[str, Tensor]) -> None:
        """See `RefreshedSampler.load_made`."""
        self.closest = saved_entities(made, "closest", self.closest, self.context.num_entities)
