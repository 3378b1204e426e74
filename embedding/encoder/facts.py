"""The distinct train facts that edges are made of, numbered, and which of them a training step leaves out."""

from enum import StrEnum

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError


class LeaveOut(StrEnum):
    """Which facts are no edges in a training step, so that no positive can be read off them."""

    FACTS = "facts"
    """The step's positives."""
    PAIRS = "pairs"
    """All facts of the two entities of a positive, whatever their relation and direction.

    For FB15k-237: no valid or test fact there joins two entities that a train fact joins (Toutanova and Chen, Observed
    versus latent features for knowledge base and text inference, 2015), but 38 % of train facts have another one
    between their entities. NBFNet's authors do so there, and also leave out the facts between a query's entity and its
    negatives (arXiv 2106.06935, remove_one_hop in their code); here these stay.
    """


class TrainFacts:
    """The F distinct train facts, numbered in the order (head, relation, tail).

    Args:
        train: the triples as ids.
        device: of the facts.
        leave_out: which of them a training step leaves out. For pairs, 16 bytes for each fact are kept.
    Raises:
        InputError: the graph has so many possible edges that they can't be numbered in 63 bits.
    """

    def __init__(
        self,
        train: Int[Tensor, "T 3"],
        num_entities: int,
        num_relations: int,
        *,
        device: torch.device,
        leave_out: LeaveOut,
    ) -> None:
        if num_entities**2 * 2 * num_relations >= 1 << 63:
            raise InputError(
                f"encoder: entities^2 * 2 * relations must be below 2^63, got {num_entities}^2 * 2 * {num_relations}: "
                "encoders are for smaller graphs"
            )
        self.num_entities = num_entities
        self.num_relations = num_relations
        self._key = torch.unique(self._keys(*train.long().unbind(1))).to(device)
        self.head: Int64[Tensor, " F"] = self._key // (num_relations * num_entities)
        self.relation: Int64[Tensor, " F"] = self._key // num_entities % num_relations
        self.tail: Int64[Tensor, " F"] = self._key % num_entities
        self._pairs = None
        if leave_out == LeaveOut.PAIRS:
            self._pairs = self._pair(self.head, self.tail).sort()

    def __len__(self) -> int:
        return len(self._key)

    def left_out(self, batch: Batch) -> Int64[Tensor, " K"]:
        """The numbers of the facts that a training step leaves out, each once.

        Args:
            batch: the global batch, on the device of the facts. Every positive must be a train fact; padding leaves
                out nothing.
        """
        real = batch.weight > 0
        head, tail = batch.head[real], batch.tail[real]
        if self._pairs is None:
            return torch.searchsorted(self._key, torch.unique(self._keys(head, batch.relation[real], tail)))
        pairs, facts = self._pairs
        pair = torch.unique(self._pair(head, tail))
        first, last = (torch.searchsorted(pairs, pair, right=right) for right in (False, True))
        count = last - first
        place = torch.arange(int(count.sum()), device=pair.device)
        return facts[place + (first - (count.cumsum(0) - count)).repeat_interleave(count)]

    def _pair(self, head: Int64[Tensor, " B"], tail: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        return torch.minimum(head, tail) * self.num_entities + torch.maximum(head, tail)

    def _keys(
        self, head: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], tail: Int64[Tensor, " B"]
    ) -> Int64[Tensor, " B"]:
        return (head * self.num_relations + relation) * self.num_entities + tail
