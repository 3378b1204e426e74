"""Ranks among given candidates instead of all entities, such as hard negatives that a benchmark publishes."""

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.model import KGEModel
from graph.answer_index import Answers
from graph.known import KnownFacts, KnownTriples
from trainer.evaluate import rank_summary
from trainer.runtime import Runtime
from trainer.spread_scores import score_lists

PREFIX = "candidate_"
"""What the names of these metrics begin with. Ranks among few candidates are not to be compared with full ranks."""
_BLOCK_PAIRS = 1 << 20
"""Queries x candidates of a block, padding included."""


class CandidateEvaluator:
    """Computes the rank of each true answer among the candidates of its query and itself.

    The candidates of a query (h, r, ?) are the tails that the listed triples have for (h, r), those of (?, r, t) their
    heads for (r, t), both without known facts. Equal scores count half, as in `RankingMetrics`.

    Args:
        listed: the triples that give the candidates, on the runtime's device.
        known: facts that are left out of the candidates.
    """

    def __init__(self, listed: KnownTriples, known: KnownFacts, runtime: Runtime) -> None:
        self.listed = listed
        self.known = known
        self.runtime = runtime

    def evaluate(self, model: KGEModel, triples: Int64[Tensor, "T 3"]) -> dict[str, dict[str, float | int]]:
        """The metrics of head queries, tail queries and both. Collective: every rank gives the same triples.

        Each has the metrics of `RankingMetrics` with the prefix candidate_; `candidates`, the mean number of candidates
        of a query; `count`, the number of ranked queries; and `unranked`, that of queries without candidates.

        Raises:
            InputError: a score is nan or infinite.
        """
        triples = triples.to(self.runtime.device)
        bounds, counts = {}, {}
        for side, listed, known in (
            ("head", self.listed.heads, self.known.heads),
            ("tail", self.listed.tails, self.known.tails),
        ):
            bounds[side], counts[side] = self._rank(model, triples, side, listed, known)
        bounds["both"], counts["both"] = (
            torch.cat([bounds["head"], bounds["tail"]], dim=1),
            torch.cat([counts["head"], counts["tail"]]),
        )
        return {side: _metrics(bounds[side].cpu(), counts[side].cpu()) for side in ("both", "head", "tail")}

    def _rank(
        self, model: KGEModel, triples: Int64[Tensor, "T 3"], side: str, listed: Answers, known: Answers
    ) -> tuple[Int64[Tensor, "2 T"], Int64[Tensor, " T"]]:
        """The best and worst rank of each query's answer, and how many candidates it has."""
        head, relation, tail = triples.unbind(1)
        anchor, target = (tail, head) if side == "head" else (head, tail)
        query, entity = listed.answers(anchor, relation)
        good = ~known.contains(anchor[query], relation[query], entity[:, None])[:, 0] & (entity != target[query])
        query, entity = query[good], entity[good]
        count = torch.bincount(query, minlength=len(triples))
        first = count.cumsum(0) - count
        bounds = torch.zeros((2, len(triples)), dtype=torch.int64, device=triples.device)
        order = count.argsort(descending=True, stable=True)[: int(count.count_nonzero())]
        while len(order):
            width = int(count[order[0]])
            rows, order = order.split([size := min(max(_BLOCK_PAIRS // width, 1), len(order)), len(order) - size])
            column = torch.arange(width, device=triples.device).expand(size, -1)
            real = column < count[rows, None]
            # The answer is scored like a candidate, so that equal rows have equal scores.
            asked = torch.cat([target[rows, None], entity[first[rows, None] + column.where(real, 0)]], dim=1)
            score = score_lists(model, self.runtime, triples[rows], asked, side)
            truth, others = score[:, :1], score[:, 1:]
            greater, equal = ((others > truth) & real).sum(1), ((others == truth) & real).sum(1)
            bounds[:, rows] = torch.stack([1 + greater, 1 + greater + equal])
        return bounds, count


def _metrics(bounds: Int64[Tensor, "2 T"], count: Int64[Tensor, " T"]) -> dict[str, float | int]:
    ranked = count > 0
    found = rank_summary(bounds[:, ranked])
    number = found.pop("count")
    named = {f"{PREFIX}{name}": value for name, value in found.items()}
    mean = float(count[ranked].double().mean()) if number else 0.0
    return {**named, "candidates": mean, "count": number, "unranked": int((~ranked).sum())}
