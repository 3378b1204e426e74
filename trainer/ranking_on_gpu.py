"""Filtered ranking on a GPU: heads and tails together, and all entities at once where their scores fit.

On a CPU, blocks of entities are so small that their scores stay in its cache (trainer/evaluate.py). A GPU would spend
the time on launching kernels. The ranks are the same up to the rounding of scores.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.model import KGEModel
from embedding.query_sides import query_sides
from embedding.scoring.candidates import Candidates
from graph.joined_facts import JoinedFacts
from graph.transfer import sent
from kernels.block_sizes import numbers_at_a_time
from kernels.filtered_counts import LeftOutRanges, count_filtered
from trainer.runtime import Runtime

_WHOLE = 64
"""Blocks are padded to a multiple of this, so that equal rows have equal scores."""
_Score = Callable[[Candidates], Float[Tensor, "Q n"]]


@dataclass(frozen=True)
class _Asked:
    """The queries of some triples: first those for their heads, then those for their tails."""

    anchor: Int64[Tensor, " Q"]
    relation: Int64[Tensor, " Q"]
    target: Int64[Tensor, " Q"]
    key: Int64[Tensor, "P Q"]

    @classmethod
    def of(cls, known: JoinedFacts, triples: Int64[Tensor, "T 3"], device: torch.device) -> "_Asked":
        """From triples on the CPU, in one copy to the GPU that the host does not wait for."""
        head, relation, tail = triples.unbind(1)
        columns = [tail, head, relation, relation, head, tail, known.keys(head, relation, tail).flatten()]
        queries = 2 * len(head)
        sizes = [queries, queries, queries, queries * known.num_indexes]
        anchor, relation, target, key = sent(torch.cat(columns), device).split(sizes)
        return cls(anchor, relation, target, key.view(-1, queries))


def count_on_gpu(
    model: KGEModel, runtime: Runtime, known: JoinedFacts, triples: Int64[Tensor, "T 3"], *, memory_mb: int
) -> Int64[Tensor, "3 Q"]:
    """The counts of `count_filtered` over all entities, for the heads of the triples and then for their tails.

    On the GPU: the host does not wait for the result. Collective: every rank gives the same triples.

    Args:
        triples: on the CPU; Q is twice their number.
        memory_mb: the most memory for scores, in MB of float32; less is used if less is free.
    """
    asked = _Asked.of(known, triples, runtime.device)
    table = model.entity
    row_of_entity, target = table.row_of_entity, table.row_of_entity[asked.target]
    left_out = LeftOutRanges(target, *known.ranges(asked.key), known.answer, row_of_entity)
    score = _scorer(model, asked)
    numbers = numbers_at_a_time(0, runtime.device)
    size = max(1, min(memory_mb * 1_000_000 // 4, numbers) // max(1, len(target)))
    is_whole = runtime.world_size == 1 and table.storage is None and size >= len(table.weight)
    truth = None if is_whole else _true_scores(model, asked, score)
    first_row = model.site.placement.block(runtime.rank, runtime.world_size)[0]
    counts = []
    for first, rows in table.blocks(size):
        missing = _WHOLE - len(rows) % _WHOLE
        scores = score(Candidates.of(torch.cat([rows, rows.new_zeros((missing, rows.shape[1]))])[None]))
        # From the same product, so that equal rows have equal scores.
        true = scores.gather(1, target[:, None])[:, 0] if truth is None else truth
        counts.append(count_filtered(scores, len(rows), true, left_out, first_row + first))
    if truth is not None:
        counts.append(torch.stack([torch.zeros_like(target)] * 2 + [truth.isfinite().logical_not().long()]))
    return runtime.add(sum(counts[1:], start=counts[0]))


def _scorer(model: KGEModel, asked: _Asked) -> _Score:
    heads = len(asked.anchor) // 2
    row, heads = model.asked(asked.relation, heads)
    sides = query_sides(model.entity(asked.anchor), model.scorer.relation_rows(row), heads)
    scorers = [
        model.scoring.scorer(each.anchor, each.relation, of_heads=each.of_heads) for each in sides if len(each.anchor)
    ]

    def score(candidates: Candidates) -> Float[Tensor, "Q n"]:
        parts = [each(candidates) for each in scorers]
        return torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()

    return score


def _true_scores(model: KGEModel, asked: _Asked, score: _Score) -> Float[Tensor, " Q"]:
    """The score of each query's target, of a product of the same kind as those of blocks."""
    return score(Candidates.padded(model.entity(asked.target), _WHOLE)).diagonal().contiguous()
