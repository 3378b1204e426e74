"""Filtered ranking among all entities. Each rank scores its own rows; the counts of all ranks are added."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from graph.answer_index import Answers
from graph.errors import InputError
from graph.joined_facts import JoinedFacts
from graph.known import KnownFacts
from kernels.ranks import LeftOut, RankCounts, count_ranks
from trainer.progress_bar import progress_bar
from trainer.ranking_on_gpu import count_on_gpu
from trainer.runtime import Runtime

_BLOCK_ROWS = 1024
"""Entities scored by one call on a CPU, so few that the scores stay in its cache until they are counted."""
_MOST_QUERIES = 512
"""The most triples ranked at a time."""
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

    def __init__(self, known: KnownFacts, runtime: Runtime, *, memory_mb: int) -> None:
        if memory_mb < 1:
            raise InputError(f"trainer.evaluation_memory_mb must be at least 1, got {memory_mb}")
        self.known = known
        self.runtime = runtime
        self.memory_mb = memory_mb
        self._facts: JoinedFacts | None = None

    def evaluate(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> RankingMetrics:
        """The metrics of `ranks`. Collective."""
        return self.ranks(model, triples).metrics()

    @torch.no_grad()
    def ranks(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> TripleRanks:
        """Ranks the head and the tail of each triple. Collective: every rank gives the same triples.

        On a CPU a terminal sees how many pairs of a query and an entity are scored, if that takes long.

        Raises:
            InputError: a score is nan or infinite.
        """
        if self.runtime.device.type == "cpu":
            pairs = 2 * len(triples) * len(model.entity.weight)
            with progress_bar("ranking", pairs, self.runtime) as scored:
                return TripleRanks(**{side: self._bounds(model, triples, side, scored) for side in ("head", "tail")})
        # Read back once for all triples: until then the host only asks, and the GPU need not wait for it.
        options = {"known": self._joined(len(model.entity.row_of_entity)), "memory_mb": self.memory_mb}
        parts = [part for part in triples.cpu().split(_MOST_QUERIES) if len(part)]
        counts = [count_on_gpu(model, self.runtime, triples=part, **options).view(3, 2, -1) for part in parts]
        counted = torch.cat([torch.zeros((3, 2, 0), dtype=torch.int64), *(each.cpu() for each in counts)], dim=2)
        head, tail = counted.unbind(1)
        return TripleRanks(self._ranks_of(model, head), self._ranks_of(model, tail))

    def _joined(self, num_entities: int) -> JoinedFacts:
        if self._facts is None:
            self._facts = JoinedFacts.of(self.known, num_entities)
        return self._facts

    def _bounds(
        self, model: KGEModel, triples: Int64[Tensor, "T 3"], side: str, scored: Callable[[int], object]
    ) -> Int64[Tensor, "2 T"]:
        """The best and the worst filtered rank of each triple's head or tail, on a CPU.

        Args:
            side: "head" or "tail".
            scored: is told of each block how many pairs of a query and an entity it has.
        """
        queries = max(1, min(_MOST_QUERIES, self.memory_mb * 1_000_000 // (4 * _BLOCK_ROWS)))
        known = self.known.heads if side == "head" else self.known.tails
        blocks = [self._rank(model, part, side, known, scored) for part in triples.split(queries) if len(part)]
        return torch.cat([triples.new_empty((2, 0)), *blocks], dim=1)

    def _rank(
        self,
        model: KGEModel,
        triples: Int64[Tensor, "Q 3"],
        side: str,
        known: Answers,
        scored: Callable[[int], object],
    ) -> Int64[Tensor, "2 Q"]:
        """The best and the worst rank of each query's answer."""
        head, relation, tail = triples.unbind(1)
        anchor, target = (tail, head) if side == "head" else (head, tail)
        anchor_rows, target_rows = model.entity(torch.cat([anchor, target])).chunk(2)
        row, heads = model.asked(relation, len(relation) if side == "head" else 0)
        score = model.scoring.scorer(anchor_rows, model.scorer.relation_rows(row), of_heads=heads > 0)
        # The true score comes from a product of the same kind, so that equal rows have equal scores.
        truth = score(Candidates.padded(target_rows, _WHOLE)).diagonal().contiguous()
        left_out = _left_out(known, anchor, relation, target, model.entity.row_of_entity)
        block_start = model.site.placement.block(self.runtime.rank, self.runtime.world_size)[0]
        counts = RankCounts(*torch.zeros((3, len(target)), dtype=torch.int64, device=target.device))
        for first, rows in model.entity.blocks(_BLOCK_ROWS):
            count_ranks(counts, score(Candidates.padded(rows, _WHOLE)), len(rows), truth, left_out, block_start + first)
            scored(len(target) * len(rows))
        bad = counts.bad + truth.isfinite().logical_not()
        return self._ranks_of(model, self.runtime.add(torch.stack([counts.greater, counts.equal, bad])))

    def _ranks_of(self, model: KGEModel, counts: Int64[Tensor, "3 Q"]) -> Int64[Tensor, "2 Q"]:
        """The best and the worst rank, from counts over all entities: greater, equal and bad, as in `RankCounts`."""
        greater, equal, bad = counts
        if bad.any():
            raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
        return torch.stack([1 + greater, 1 + greater + equal])


def _left_out(
    known: Answers,
    anchor: Int64[Tensor, " Q"],
    relation: Int64[Tensor, " Q"],
    target: Int64[Tensor, " Q"],
    row_of_entity: Int64[Tensor, " E"],
) -> LeftOut:
    """The target of each query and its known answers, as rows of the table."""
    relations = int(relation.max()) + 1
    # Many triples may ask the same: the answers of (?, instance of, human) are looked up and sorted once.
    query, place = torch.unique(anchor * relations + relation, return_inverse=True)
    position, entity = known.answers(query // relations, query % relations)
    answer = (position * len(row_of_entity)).add_(row_of_entity[entity]).sort().values.remainder_(len(row_of_entity))
    count = torch.bincount(position, minlength=len(query))
    return LeftOut(row_of_entity[target], place, torch.cat([count.new_zeros(1), count.cumsum(0)]), answer)


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
