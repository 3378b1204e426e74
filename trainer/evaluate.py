"""Filtered ranking over all entities: each rank scores its own rows, and integer counts are added up."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from graph.errors import InputError
from graph.known import AnswerIndex, KnownTriples
from trainer.runtime import Runtime

_BLOCK_ROWS = 4096
"""Entities scored by one call. The last block is filled up to this, because a matrix product's rounding may depend on
its shape, and a rank's number of rows depends on how many ranks there are."""
_MOST_QUERIES = 1024
"""Queries scored at a time, however much memory there is."""


@dataclass(frozen=True)
class RankingMetrics:
    """Metrics of one side or both: `mrr`, `mean_rank`, `hits@1`, `hits@3`, `hits@10`, `count` and the effect of ties.

    Ranks start at 1 and are realistic: the mean of the best and the worst rank among equal scores. `mrr_optimistic`
    and `mrr_pessimistic` take the best and the worst, `tie_gap` is their difference: large for a collapsed model.
    """

    both: dict[str, float]
    head: dict[str, float]
    tail: dict[str, float]

    def as_dict(self) -> dict[str, dict[str, float]]:
        """By side."""
        return {"both": self.both, "head": self.head, "tail": self.tail}


class RankingEvaluator:
    """Ranks the true answer of each query among all entities, without the other known answers.

    Args:
        known: the triples to filter by, on the runtime's device.
        memory_mb: bound on the scores held at a time on a rank, in MB of float32.
    """

    def __init__(self, known: KnownTriples, runtime: Runtime, *, memory_mb: int) -> None:
        if memory_mb < 1:
            raise InputError(f"trainer.evaluation_memory_mb must be at least 1, got {memory_mb}")
        self.known = known
        self.runtime = runtime
        self.memory_mb = memory_mb

    @torch.no_grad()
    def evaluate(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> RankingMetrics:
        """Ranks the head and the tail of each triple. Collective."""
        num_entities = len(model.site.placement.row_of_entity)
        # By the whole graph, not by this rank's part of it: see _BLOCK_ROWS.
        queries = max(1, min(_MOST_QUERIES, self.memory_mb * 1_000_000 // (4 * num_entities)))
        bounds = {}
        for side in ("head", "tail"):
            blocks = [self._rank(model, block.to(self.runtime.device), side) for block in triples.split(queries)]
            bounds[side] = torch.cat([triples.new_empty((2, 0)), *blocks], dim=1)
        both = torch.cat([bounds["head"], bounds["tail"]], dim=1)
        return RankingMetrics(both=_summary(both), head=_summary(bounds["head"]), tail=_summary(bounds["tail"]))

    def _rank(self, model: KGEModel, triples: Int64[Tensor, "Q 3"], side: str) -> Int64[Tensor, "2 Q"]:
        """The best and the worst rank of each query's answer."""
        head, relation, tail = triples.unbind(1)
        anchor, target, index = (tail, head, self.known.heads) if side == "head" else (head, tail, self.known.tails)
        scores = self._local_scores(model, anchor, relation, side)
        first_row = model.site.placement.block(self.runtime.rank, self.runtime.world_size)[0]
        row = model.entity.row_of_entity[target] - first_row
        mine = (row >= 0) & (row < scores.shape[1])
        query = torch.arange(len(row), device=row.device)[mine]
        # The true score comes out of the same product as the others', so that equal rows have equal scores.
        true = scores.new_zeros(len(row))
        true[query] = scores[query, row[mine]]
        bad = (~scores.isfinite()).any(1)
        self.runtime.add(true)
        greater, equal = (scores > true[:, None]).sum(1), (scores == true[:, None]).sum(1)
        self._subtract_known(model, scores, true, (anchor, relation, target), index, greater, equal)
        equal[query] -= 1
        greater, equal, bad = self.runtime.add(torch.stack([greater, equal, bad.long()])).cpu()
        if bad.any():
            raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
        return torch.stack([1 + greater, 1 + greater + equal])

    def _local_scores(
        self, model: KGEModel, anchor: Int64[Tensor, " Q"], relation: Int64[Tensor, " Q"], side: str
    ) -> Float[Tensor, "Q L"]:
        """Scores of each query with every entity of this rank's block."""
        anchor_rows, relation_rows = model.entity(anchor), model.scorer.relation_rows(relation)
        score = model.scoring.score_heads if side == "head" else model.scoring.score_tails
        # A whole number of 64s: a matrix product of one or two queries rounds its last columns in another way.
        size = min(_BLOCK_ROWS, -(-len(model.site.placement.row_of_entity) // 64) * 64)
        scores = anchor_rows.new_empty((len(anchor), len(model.entity.weight)))
        for start, rows in model.entity.blocks(size):
            filled = rows if len(rows) == size else torch.cat([rows, rows.new_zeros((size - len(rows), rows.shape[1]))])
            scores[:, start : start + len(rows)] = score(anchor_rows, relation_rows, Candidates.of(filled[None]))[
                :, : len(rows)
            ]
        return scores

    def _subtract_known(
        self,
        model: KGEModel,
        scores: Float[Tensor, "Q L"],
        true: Float[Tensor, " Q"],
        queries: tuple[Int64[Tensor, " Q"], Int64[Tensor, " Q"], Int64[Tensor, " Q"]],
        index: AnswerIndex,
        greater: Int64[Tensor, " Q"],
        equal: Int64[Tensor, " Q"],
    ) -> None:
        """Takes known answers other than the target out of the counts."""
        anchor, relation, target = queries
        query, entity = index.answers(anchor, relation)
        first_row = model.site.placement.block(self.runtime.rank, self.runtime.world_size)[0]
        row = model.entity.row_of_entity[entity] - first_row
        mine: Bool[Tensor, " K"] = (row >= 0) & (row < scores.shape[1]) & (entity != target[query])
        query, known = query[mine], scores[query[mine], row[mine]]
        greater.index_add_(0, query, -(known > true[query]).long())
        equal.index_add_(0, query, -(known == true[query]).long())


def _summary(bounds: Int64[Tensor, "2 T"]) -> dict[str, float]:
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
