"""Estimated filtered ranks: the true answer is compared with some of the entities, which stand for all.

Ranks among a uniform sample are far too good, because the few entities that score above an answer are mostly missed
(Cornell et al., arXiv 2402.00053). So the likeliest entities of the query's slot are all compared, and the others are
counted by a sample of them.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates as Compared
from graph.errors import InputError
from graph.known import KnownFacts
from trainer.runtime import Runtime
from trainer.slot_candidates import Candidates, SlotCandidates

PREFIX = "estimated_"
"""What the names of these metrics begin with."""
_MOST_QUERIES = 256
"""The most queries that are compared at a time."""
_WHOLE = 64
"""Blocks are padded to a multiple of this, so that equal rows have equal scores."""


class EstimatedEvaluator:
    """Estimates filtered ranks, in a time that does not grow with the number of entities.

    The estimate of a rank is 1, plus the number of likely entities above the answer, plus the number of other entities
    times the share of the drawn ones that is above it. Equal scores count half. Known facts are left out everywhere;
    if all drawn ones are known, the others count as below the answer.

    Args:
        known: the facts to filter by, on the runtime's device.
    """

    def __init__(self, known: KnownFacts, candidates: SlotCandidates, runtime: Runtime) -> None:
        self.known = known
        self.candidates = candidates
        self.runtime = runtime

    @torch.no_grad()
    def evaluate(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> dict[str, dict[str, float | int]]:
        """The metrics of head queries, tail queries and both: those of `RankingMetrics` but for ties, with the prefix
        estimated_, and `count`. Collective: every rank gives the same triples.

        Raises:
            InputError: a score is nan or infinite.
        """
        triples = triples.to(self.runtime.device)
        head, tail = (self.ranks(model, triples, side) for side in ("head", "tail"))
        ranks = {"both": torch.cat([head, tail]), "head": head, "tail": tail}
        return {side: _metrics(of_side) for side, of_side in ranks.items()}

    @torch.no_grad()
    def ranks(self, model: KGEModel, triples: Int64[Tensor, "T 3"], side: str) -> Float64[Tensor, " T"]:
        """The estimated rank of each triple's head or tail, from 1. Collective: every rank gives the same triples."""
        slots = self.candidates.slots
        ranks = torch.zeros(len(triples), dtype=torch.float64)
        for relation in triples[:, 1].unique().tolist():
            chosen = self.candidates.of(slots.head(relation) if side == "head" else slots.tail(relation))
            (of_relation,) = torch.nonzero(triples[:, 1] == relation, as_tuple=True)
            for queries in of_relation.split(_MOST_QUERIES):
                ranks[queries.cpu()] = self._rank(model, triples[queries], side, chosen)
        return ranks

    def _rank(
        self, model: KGEModel, triples: Int64[Tensor, "Q 3"], side: str, chosen: Candidates
    ) -> Float64[Tensor, " Q"]:
        """The estimated ranks of queries with one relation."""
        head, relation, tail = triples.unbind(1)
        anchor, target = (tail, head) if side == "head" else (head, tail)
        index = self.known.heads if side == "head" else self.known.tails
        query, known = index.answers(anchor, relation)
        other = known != target[query]
        # The target is left out too: it is in the index or not, so it is taken out and added once.
        query = torch.cat([torch.arange(len(target), device=target.device), query[other]])
        known = torch.cat([target, known[other]])
        anchor_rows, target_rows = model.entity(torch.cat([anchor, target])).chunk(2)
        row, heads = model.asked(relation, len(relation) if side == "head" else 0)
        score = model.scoring.scorer(anchor_rows, model.scorer.relation_rows(row), of_heads=heads > 0)
        # The true score comes from a product of the same kind, so that equal rows have equal scores.
        truth = score(Compared.padded(target_rows, _WHOLE)).diagonal()

        def count(entity: Int64[Tensor, " n"]) -> tuple[Float64[Tensor, " Q"], Int64[Tensor, " Q"]]:
            """How many of this rank's rows of these entities are above the answer, and how many entities are known."""
            is_known = torch.zeros((len(target), len(entity)), dtype=torch.bool, device=target.device)
            if len(entity):
                place = torch.searchsorted(entity, known).clamp(max=len(entity) - 1)
                found = entity[place] == known
                is_known[query[found], place[found]] = True
            own, rows = _own_rows(model, entity)
            scores = score(Compared.padded(rows, _WHOLE))[:, : len(rows)]
            above = (scores > truth[:, None]).double() + (scores == truth[:, None]).double() / 2
            above = above.masked_fill(is_known[:, own], 0).sum(1)
            return above.masked_fill(~scores.isfinite().all(1), torch.nan), is_known.sum(1)

        (sure, known_sure), (drawn, known_drawn) = count(chosen.sure), count(chosen.drawn)
        sure, drawn = self.runtime.add(torch.stack([sure, drawn]))
        if not (sure.isfinite().all() and drawn.isfinite().all() and truth.isfinite().all()):
            raise InputError(f"the model {model.name!r} gives scores that are nan or infinite: it has diverged")
        others = chosen.others - (torch.bincount(query, minlength=len(target)) - known_sure)
        kept = len(chosen.drawn) - known_drawn
        return (1 + sure + drawn * others / kept.clamp(min=1)).cpu()


def _own_rows(model: KGEModel, entity: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " m"], Float[Tensor, "m E"]]:
    """Which of these entities this rank has, and their rows."""
    start, stop = model.site.placement.block(model.site.rank, model.site.world_size)
    row = model.entity.row_of_entity[entity]
    (own,) = torch.nonzero((row >= start) & (row < stop), as_tuple=True)
    return own, model.entity.weight[row[own] - start].to(model.site.dtype)


def _metrics(rank: Float64[Tensor, " Q"]) -> dict[str, float | int]:
    if not len(rank):
        return {"count": 0}
    hits = {f"{PREFIX}hits@{k}": float((rank <= k).double().mean()) for k in (1, 3, 10)}
    of_ranks = {f"{PREFIX}mrr": float((1 / rank).mean()), f"{PREFIX}mean_rank": float(rank.mean())}
    return {**of_ranks, **hits, "count": len(rank)}
