"""Hardness of negatives: the share of all entities that score lower for the same query."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import pad

from embedding.model import KGEModel
from embedding.query_sides import block_scorer
from graph.batch import Batch
from trainer.runtime import Runtime

_BLOCK_ROWS = 1024
"""Entities scored by one call. Blocks are padded to it, because a product of another width may round differently."""


@torch.no_grad()
def hardness(model: KGEModel, batch: Batch, entity: Int64[Tensor, "B D"], runtime: Runtime) -> Float64[Tensor, "B D"]:
    """The share of the other entities that score below each negative; equal scores count half. Collective.

    0 is the easiest negative and 1 the hardest; uniform draws have mean .5. Known answers are among the other entities.

    All ranks must give the same batch and entities. Each rank scores the queries against its own rows twice: first to
    get the scores of the negatives among its rows, then to count lower scores.
    """
    row = model.entity.row_of_entity[entity]
    own = torch.zeros(entity.shape, dtype=model.site.dtype, device=entity.device)
    for first, score in _blocks(model, batch):
        place = row - first
        here = (place >= 0) & (place < score.shape[1])
        own = torch.where(here, score.gather(1, place.clamp(0, score.shape[1] - 1)), own)
    own = runtime.add(own)
    below = torch.zeros_like(entity)
    for _, score in _blocks(model, batch):
        ordered = score.sort(1).values
        # Entities below count twice and equal ones once. The negative itself is subtracted at the end.
        below += torch.searchsorted(ordered, own) + torch.searchsorted(ordered, own, right=True)
    others = max(len(model.entity.row_of_entity) - 1, 1)
    return (runtime.add(below) - 1).double() / (2 * others)


def _blocks(model: KGEModel, batch: Batch) -> Iterator[tuple[int, Float[Tensor, "B n"]]]:
    """(first row in the whole table, scores of all queries) for each block of this rank's rows. Collective."""
    scores = block_scorer(model, *model.query_rows(batch))
    start = model.site.placement.block(model.site.rank, model.site.world_size)[0]
    for first, rows in model.entity.blocks(_BLOCK_ROWS):
        score = scores(pad(rows, (0, 0, 0, _BLOCK_ROWS - len(rows)))[None])
        yield start + first, score[:, : len(rows)].contiguous()
