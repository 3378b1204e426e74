"""Filtered ranking among all entities. Each rank scores its own rows; the counts of all ranks are added."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from graph.errors import InputError
from graph.known import AnswerIndex, KnownTriples
from kernels.ranks import LeftOut, RankCounts, count_ranks
from trainer.runtime import Runtime

_BLOCK_ROWS = 1024
"""Entities scored by one call, so few that the scores stay in the processor's cache until they are counted."""
_MOST_QUERIES = 512
"""The most queries scored at a time."""
_WHOLE = 64
"""Blocks are padded to a multiple of this, so that equal rows have equal scores."""

SIDES = ("both", "head", "tail")
"""Which queries metrics are of: all, those for heads, or those for tails."""


@dataclass(frozen=True)
class RankingMetrics:
    """Metrics of head queries, tail queries and both: `mrr`, `mean_rank`, `hits@1`, `hits@3`, `hits@10` and `count`.

    Ranks start at 1 and are realistic, as in PyKEEN: the mean of the best and the worst rank among equal scores.
    `mrr_optimistic` uses the best rank, `mrr_pessimistic` the worst. `tie_gap` is their difference, which is large for
    a collapsed model. Without queries there is only `count` = 0.
    """

    both: dict[str, float]
    head: dict[str, float]
    tail: dict[str, float]

    def as_dict(self) -> dict[str, dict[str, float]]:
        """The metrics by side: "both", "head", "tail"."""
        return {side: getattr(self, side) for side in SIDES}


@dataclass(frozen=True)
class TripleRanks:
    """The filtered ranks of triples, in their order: row 0 is the best rank among equal scores, row 1 the worst.

    `head` is the rank of each triple's head among all entities, `tail` that of its tail.
    """

    head: Int64[Tensor, "2 T"]
    tail: Int64[Tensor, "2 T"]

    def realistic(self, side: str) -> Float64[Tensor, " T"]:
        """The ranks of a side, "head" or "tail": the mean of the best and the worst."""
        return getattr(self, side).double().mean(0)

    def metrics(self) -> RankingMetrics:
        """The metrics of all these ranks."""
        both = torch.cat([self.head, self.tail], dim=1)
        return RankingMetrics(both=rank_summary(both), head=rank_summary(self.head), tail=rank_summary(self.tail))

    def of(self, chosen: Bool[Tensor, " T"]) -> "TripleRanks":
        """The ranks of some of the triples."""
        return TripleRanks(self.head[:, chosen], self.tail[:, chosen])


class RankingEvaluator:
    """Computes the filtered rank of each true answer: its rank among all entities except the other known answers.

    Example: `RankingEvaluator(known, runtime, memory_mb=256).evaluate(model, graph.test).both["mrr"]`.

    Args:
        known: the triples to filter by, on the runtime's device.
        memory_mb: the most memory for scores on a rank, in MB of float32.

    Raises:
        InputError: `memory_mb` is below 1.
    """

    def __init__(self, known: KnownTriples, runtime: Runtime, *, memory_mb: int) -> None:
        if memory_mb < 1:
            raise InputError(f"trainer.evaluation_memory_mb must be at least 1, got {memory_mb}")
        self.known = known
        self.runtime = runtime
        self.memory_mb = memory_mb

    def evaluate(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> RankingMetrics:
        """The metrics of `ranks`. Collective."""
        return self.ranks(model, triples).metrics()

    @torch.no_grad()
    def ranks(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> TripleRanks:
        """Ranks the head and the tail of each triple. Collective: every rank gives the same triples.

        Raises:
            InputError: a score is nan or infinite.
        """
        return TripleRanks(**{side: self.bounds(model, triples, side) for side in ("head", "tail")})

    @torch.no_grad()
    def bounds(self, model: KGEModel, triples: Int64[Tensor, "T 3"], side: str) -> Int64[Tensor, "2 T"]:
        """The best and the worst filtered rank of each triple's head or tail, from 1; they differ if scores are equal.

        Their mean is the realistic rank. Collective: every rank gives the same triples.

        Args:
            side: "head" or "tail".

        Raises:
            InputError: a score is nan or infinite.
        """
        queries = max(1, min(_MOST_QUERIES, self.memory_mb * 1_000_000 // (4 * _BLOCK_ROWS)))
        index = self.known.heads if side == "head" else self.known.tails
        known = index.relabelled(model.entity.row_of_entity)
        blocks = [self._rank(model, part.to(self.runtime.device), side, known) for part in triples.split(queries)]
        return torch.cat([triples.new_empty((2, 0)), *blocks], dim=1)

    def _rank(
        self, model: KGEModel, triples: Int64[Tensor, "Q 3"], side: str, known: AnswerIndex
    ) -> Int64[Tensor, "2 Q"]:
        """The best and the worst rank of each query's answer. The answers in `known` are rows of the table."""
        head, relation, tail = triples.unbind(1)
        anchor, target = (tail, head) if side == "head" else (head, tail)
        anchor_rows, target_rows = model.entity(torch.cat([anchor, target])).chunk(2)
        row, heads = model.asked(relation, len(relation) if side == "head" else 0)
        score = model.scoring.scorer(anchor_rows, model.scorer.relation_rows(row), of_heads=heads > 0)
        # The true score comes from a product of the same kind, so that equal rows have equal scores.
        truth = score(Candidates.padded(target_rows, _WHOLE)).diagonal().contiguous()
        target_row = model.entity.row_of_entity[target]
        left_out = LeftOut(target_row, known.rows(anchor, relation), known.offset, known.answer)
        block_start = model.site.placement.block(self.runtime.rank, self.runtime.world_size)[0]
        counts = RankCounts(*torch.zeros((3, len(target)), dtype=torch.int64, device=target.device))
        for first, rows in model.entity.blocks(_BLOCK_ROWS):
            count_ranks(counts, score(Candidates.padded(rows, _WHOLE)), len(rows), truth, left_out, block_start + first)
        totals = self.runtime.add(torch.stack([counts.greater, counts.equal, counts.bad]))
        greater, equal, bad = totals.cpu()
        if bad.any() or not truth.isfinite().all():
            raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
        return torch.stack([1 + greater, 1 + greater + equal])


def rank_summary(bounds: Int64[Tensor, "2 T"]) -> dict[str, float | int]:
    """The metrics of queries whose answers have these best and worst ranks; see `RankingMetrics`."""
    best, worst = bounds.double()
    if not len(best):
        return {"count": 0}
    realistic = (best + worst) / 2
    optimistic, pessimistic = float((1 / best).mean()), float((1 / worst).mean())
    return {
        "mrr": float((1 / realistic).mean()),
        "mean_rank": float(realistic.mean()),
        **{f"hits@{k}": float((realistic <= k).double().mean()) for k in (1, 3, 10)},
        "mrr_optimistic": optimistic,
        "mrr_pessimistic": pessimistic,
        "tie_gap": optimistic - pessimistic,
        "count": len(best),
    }
