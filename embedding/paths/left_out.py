"""The edges that a training step leaves out, so that no positive can be read off them."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.encoder.incoming import IncomingEdges
from graph.batch import Batch
from graph.errors import InputError


class LeftOut(ABC):
    """Says which edges a training step leaves out.

    Args:
        incoming: all edges.
    """

    def __init__(self, incoming: IncomingEdges) -> None:
        self._incoming = incoming

    @abstractmethod
    def places(self, batch: Batch) -> Int64[Tensor, " X"]:
        """The places of the edges that a step leaves out.

        Args:
            batch: the global batch, on the device of the edges. Every positive must be a train fact.
        """


class Facts(LeftOut):
    """Leaves out the edges of the positives and their inverses."""

    def places(self, batch: Batch) -> Int64[Tensor, " X"]:
        """See `LeftOut.places`."""
        return self._incoming.of_fact[:, self._incoming.facts.numbers(batch)].flatten()


class Pairs(LeftOut):
    """Leaves out all edges between the two entities of a positive, in both directions, whatever their relation.

    So do NBFNet's authors on FB15k-237 (arXiv 2106.06935), whose valid and test facts never join entities that a train
    fact joins. Costs 24 bytes for each fact.
    """

    def __init__(self, incoming: IncomingEdges) -> None:
        super().__init__(incoming)
        facts = incoming.facts
        self._pair, self._fact = self._of(facts.head, facts.tail).sort()

    def places(self, batch: Batch) -> Int64[Tensor, " X"]:
        """See `LeftOut.places`."""
        facts = self._incoming.facts
        number = facts.numbers(batch)
        pair = torch.unique(self._of(facts.head[number], facts.tail[number]))
        first, last = (torch.searchsorted(self._pair, pair, right=right) for right in (False, True))
        count = last - first
        place = torch.arange(int(count.sum()), device=pair.device)
        place += (first - (count.cumsum(0) - count)).repeat_interleave(count)
        return self._incoming.of_fact[:, self._fact[place]].flatten()

    def _of(self, head: Int64[Tensor, " F"], tail: Int64[Tensor, " F"]) -> Int64[Tensor, " F"]:
        return torch.minimum(head, tail) * self._incoming.facts.num_entities + torch.maximum(head, tail)


KINDS: dict[str, type[LeftOut]] = {"facts": Facts, "pairs": Pairs}
"""What `leave_out` may say."""


def check_left_out(name: str) -> None:
    """Raises InputError for a name that is none of `KINDS`."""
    if name not in KINDS:
        raise InputError(f"leave_out must be one of {', '.join(KINDS)}, got {name}")
