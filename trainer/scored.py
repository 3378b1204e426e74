"""How many candidates models have scored: counted where scores are made, not by a formula of what should be."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from embedding.model import KGEModel


class ScoredCandidates:
    """Counts the candidates that models score on this rank; a model that is not watched pays nothing.

    One candidate of one query counts 1, whoever asked: negatives and pools, scored by the discriminator or by a
    generator's model, and every entity where a sampler or a loss compares queries with the whole table. Positives' own
    scores do not count.
    """

    def __init__(self, models: Iterable[KGEModel]) -> None:
        self.count = 0
        for model in models:
            model.scorer.register_forward_hook(self._count_batch)
            model.scoring.on_scores = self._count_block

    def _count_batch(self, _: nn.Module, __: Any, output: tuple[Tensor | None, Tensor, Tensor | None]) -> None:
        self.count += output[1].numel()

    def _count_block(self, scores: Tensor) -> None:
        """Of the whole table. With gradients on, backward scores a block of forward's again, which does not count."""
        if not torch.is_grad_enabled():
            self.count += scores.numel()
