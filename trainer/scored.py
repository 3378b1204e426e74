"""Counts the candidates that models score, where scores are computed."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates


class ScoredCandidates:
    """Counts the candidates that the given models score on this rank, in `count`.

    One candidate of one query counts 1. Counted are negatives and pools, scored by the discriminator or a generator's
    model, and all entities where a sampler or a loss scores the whole table. Scores of positives are not counted.
    """

    def __init__(self, models: Iterable[KGEModel]) -> None:
        self.count = 0
        for model in models:
            model.scorer.register_forward_hook(self._count_batch)
            # Scoring blocks of the whole table does not call the model, so the scorer is wrapped too.
            model.scoring.scorer = self._watched(model.scoring.scorer)

    def _count_batch(self, _: nn.Module, __: Any, output: tuple[Tensor | None, Tensor, Tensor | None]) -> None:
        self.count += output[1].numel()

    def _watched(self, make: Callable[..., Callable[[Candidates], Tensor]]) -> Callable[..., Callable[..., Tensor]]:
        def scorer(*rows: Tensor, of_heads: bool) -> Callable[[Candidates], Tensor]:
            score = make(*rows, of_heads=of_heads)

            def counted(candidates: Candidates) -> Tensor:
                scores = score(candidates)
                # With gradients, backward scores the blocks of forward again; count only one of the two.
                if not torch.is_grad_enabled():
                    self.count += scores.numel()
                return scores

            return counted

        return scorer
