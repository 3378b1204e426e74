"""Counts the candidates that models score, where scores are computed."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from embedding.model import KGEModel
from embedding.triple_scorer import Scored


class ScoredCandidates:
    """Counts the candidates that the given models score on this rank, in `count`.

    One candidate of one query counts 1. Counted are negatives and pools, scored by the discriminator or a generator's
    model, and all entities where a sampler or a loss scores the whole table. Scores of positives are not counted.
    """

    def __init__(self, models: Iterable[KGEModel]) -> None:
        self.count = 0
        for model in models:
            model.scorer.register_forward_hook(self._count_batch)
            model.scoring.on_scores = self._count_block

    def _count_batch(self, _: nn.Module, __: Any, output: Scored) -> None:
        self.count += output.negative.numel()

    def _count_block(self, scores: Tensor) -> None:
        """Counts scores of a block of the whole table."""
        # With gradients, backward scores the blocks of forward again; only one of the two counts.
        if not torch.is_grad_enabled():
            self.count += scores.numel()
