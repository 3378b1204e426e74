"""Known facts of several indexes and of both directions in one list, so that one search finds all answers.

A GPU needs it: there an operation takes as long for a thousand queries as for one, so few operations matter.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from graph.known import KnownFacts


@dataclass(frozen=True, eq=False)
class JoinedFacts:
    """The indexes of known facts one after the other, of each first the heads, then the tails.

    Nothing is sorted anew, so a fact that two indexes know is there twice. Row x has the key `key[x]`, ascending, and
    the answers `answer[offset[x]:offset[x + 1]]`. See `keys`.
    """

    key: Int64[Tensor, " X"]
    offset: Int64[Tensor, " X_plus_1"]
    answer: Int32[Tensor, " T"]
    num_entities: int
    num_relations: int
    num_indexes: int

    @classmethod
    def of(cls, known: KnownFacts, num_entities: int) -> "JoinedFacts":
        """Copies the facts, on their device.

        Args:
            num_entities: of the graph; ids of anchors are below it.
        """
        pairs = list(zip(known.heads.indexes, known.tails.indexes, strict=True))
        indexes = [index for pair in pairs for index in pair]
        span = num_entities * indexes[0].num_relations
        answers = [0]
        for index in indexes:
            answers.append(answers[-1] + len(index.answer))
        offsets = [index.offset[:-1].long() + first for index, first in zip(indexes, answers, strict=False)]
        end = torch.full((1,), answers[-1], dtype=torch.int64, device=indexes[0].answer.device)
        return cls(
            torch.cat([index.query.long() + number * span for number, index in enumerate(indexes)]),
            torch.cat([*offsets, end]),
            torch.cat([index.answer for index in indexes]),
            num_entities,
            indexes[0].num_relations,
            len(pairs),
        )

    def keys(
        self, head: Int64[Tensor, " T"], relation: Int64[Tensor, " T"], tail: Int64[Tensor, " T"]
    ) -> Int64[Tensor, "P Q"]:
        """The keys of Q = 2 T queries in each of P indexes: those for the heads of these triples, then for the tails.

        On the device of the triples. A query without answers has a key that is in no row.
        """
        span = self.num_entities * self.num_relations
        anchor, relation = torch.stack([tail, head]), relation.expand(2, -1)
        shift = torch.arange(2 * self.num_indexes, device=head.device).view(-1, 2, 1) * span
        return (anchor * self.num_relations + relation + shift).flatten(1)

    def ranges(self, key: Int64[Tensor, "P Q"]) -> tuple[Int64[Tensor, "P Q"], Int64[Tensor, "P Q"]]:
        """Where the answers of each query begin and end in `answer`; equal if there are none."""
        return (
            self.offset[torch.searchsorted(self.key, key)],
            self.offset[torch.searchsorted(self.key, key, right=True)],
        )
