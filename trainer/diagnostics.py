"""What is watched of a step and not trained on: rates of true facts among the negatives, and digests of the draws."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from discriminator.discriminator import Verdict
from graph.batch import Batch, Negatives
from graph.counter_random import combine, random_bits, stream
from graph.known import KnownTriples, per_positive
from trainer.runtime import Runtime


class Diagnostics:
    """Metrics of a logged step.

    Args:
        train: facts that the run trains on.
        hidden: true facts that no split has, where a graph knows them (the synthetic one); None otherwise.
        held_out: valid and test facts. Their rate among the negatives is reported and used for nothing else: no
            sampler, loss or choice of a checkpoint sees it.
        log_digests: whether to log a number for the triples, the pools and the draws of a step, equal in two runs
            when these are.
    """

    def __init__(
        self,
        runtime: Runtime,
        train: KnownTriples,
        hidden: KnownTriples | None,
        held_out: KnownTriples,
        *,
        log_digests: bool,
    ) -> None:
        self.runtime = runtime
        self.train = train
        self.hidden = hidden
        self.held_out = held_out
        self.log_digests = log_digests

    def means(
        self, batch: Batch, negatives: Negatives, verdict: Verdict, of_sampler: dict[str, Float[Tensor, " B"]]
    ) -> dict[str, float]:
        """Means over the global batch. Collective."""
        entity = negatives.entity
        value = {
            "train/positive_score": verdict.positive,
            "train/negative_score": verdict.negative.mean(1),
            "negatives/known_true": self.train.contains(batch, entity).double().mean(1),
            "negatives/held_out_true": self.held_out.contains(batch, entity).double().mean(1),
        }
        if self.hidden is not None:
            value["negatives/hidden_true"] = self.hidden.contains(batch, entity).double().mean(1)
        value |= of_sampler
        shares = self.runtime.add(torch.stack([batch.share_of_mean(column) for column in value.values()]))
        return dict(zip(value, shares.tolist(), strict=True))

    def digests(self, batch: Batch, negatives: Negatives) -> dict[str, str]:
        """Digests of the global batch, whatever ranks its chunks are on. Collective."""
        if not self.log_digests:
            return {}
        positives = len(batch.head)
        triple = torch.stack([batch.head, batch.relation, batch.tail], dim=1)
        part = {"triples": triple, "negatives": per_positive(negatives.entity, positives)}
        if negatives.pool is not None:
            part["pools"] = per_positive(negatives.pool, positives)
        sums = torch.stack([self._digest(name, batch, value) for name, value in part.items()])
        return {
            f"digest/{name}": f"{word & (2**64 - 1):016x}"
            for name, word in zip(part, self.runtime.add(sums).tolist(), strict=True)
        }

    @staticmethod
    def _digest(name: str, batch: Batch, value: Int64[Tensor, "B K"]) -> Int64[Tensor, ""]:
        """A sum, which wraps, of one hash for each (chunk, place within it, value)."""
        place = torch.arange(batch.chunk_size * value.shape[1], device=value.device)
        counter = combine(batch.chunk[:, None], place).view(value.shape)
        return random_bits(stream(name, batch.epoch), combine(counter, value)).sum()
