"""Metrics of a step that training does not use: rates of true facts among the negatives, and digests of draws."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from discriminator.discriminator import Verdict
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.counter_random import combine, random_bits, stream
from graph.known import KnownTriples
from trainer.runtime import Runtime
from trainer.usage import Usage

_LOOKED_UP = 16
"""Of how many negatives of each positive a line of metrics says whether they are true. To look up 256 of each of 16,384
took 23 seconds where the facts did not fit in memory."""


class Diagnostics:
    """Metrics of a logged step.

    Args:
        train: the train facts.
        hidden: true facts that are in no split, which only the synthetic graph has; else None.
        held_out: the valid and test facts. Their rate among the negatives is only reported: no sampler, loss or choice
            of a checkpoint uses it.
        log_digests: log digests of the step's triples, pools and negatives: equal in two runs with equal draws.
        log_usage: log the processor time and the memory of each rank.
    """

    def __init__(
        self,
        runtime: Runtime,
        train: KnownTriples,
        hidden: KnownTriples | None,
        held_out: KnownTriples,
        *,
        log_digests: bool,
        log_usage: bool,
    ) -> None:
        self.runtime = runtime
        self.train = train
        self.hidden = hidden
        self.held_out = held_out
        self.log_digests = log_digests
        self._usage = Usage(runtime) if log_usage else None

    def means(
        self, batch: Batch, negatives: Negatives, verdict: Verdict, of_sampler: dict[str, Float[Tensor, " B"]]
    ) -> dict[str, float]:
        """Means over the global batch, by the name of the metric. Collective.

        Rates of true facts are those of at most 16 negatives of each positive, at even distances in their order.
        """
        entity = negatives.entity
        entity = entity[:, :: math.ceil(entity.shape[1] / _LOOKED_UP)]
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

    def usage(self) -> dict[str, float]:
        """Cores and memory of each rank, if they are logged. Collective."""
        return {} if self._usage is None else self._usage.measure()

    def digests(self, batch: Batch, negatives: Negatives) -> dict[str, str]:
        """Digests (16 hex digits) of the global batch, the same at every number of ranks. Collective."""
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
        """The wrapping sum of one hash for each (chunk, position in the chunk, value)."""
        place = torch.arange(batch.chunk_size * value.shape[1], device=value.device)
        counter = combine(batch.chunk[:, None], place).view(value.shape)
        return random_bits(stream(name, batch.epoch), combine(counter, value)).sum()
