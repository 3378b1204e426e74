"""The entities or relations whose rows are nearest to the row of one of them.

A row has all parts that the scoring function gives an entity or a relation, such as TransD's vector and its transfer
vector, or the real and the imaginary parts of ComplEx. All numbers of a row count alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.best_of_table import best_of_table
from embedding.model import KGEModel
from embedding.scoring.candidates import Candidates
from graph.errors import InputError
from trainer.progress_bar import progress_bar
from trainer.runtime import Runtime

_Nearness = Callable[[Float64[Tensor, "1 D"], Float64[Tensor, "n D"]], Float64[Tensor, "1 n"]]


def _cosine(row: Float64[Tensor, "1 D"], others: Float64[Tensor, "n D"]) -> Float64[Tensor, "1 n"]:
    lengths = torch.linalg.vector_norm(row) * torch.linalg.vector_norm(others, dim=1)
    # A row of zeros has no direction: it is as far as a right angle.
    return (row @ others.T) / lengths.clamp(min=1e-300)


def _minus_l2(row: Float64[Tensor, "1 D"], others: Float64[Tensor, "n D"]) -> Float64[Tensor, "1 n"]:
    return -torch.linalg.vector_norm(others - row, dim=1)[None]


def _dot(row: Float64[Tensor, "1 D"], others: Float64[Tensor, "n D"]) -> Float64[Tensor, "1 n"]:
    return row @ others.T


NEARNESS: dict[str, _Nearness] = {"cosine": _cosine, "l2": _minus_l2, "dot": _dot}
"""Measures by name; higher is nearer. "l2" is minus the distance."""


@dataclass(frozen=True)
class Nearest:
    """The nearest other entities or relations, nearest first; of equally near ones, the lower id first."""

    id: Int64[Tensor, " k"]
    nearness: Float64[Tensor, " k"]


@torch.no_grad()
def similar_entities(model: KGEModel, entity: int, *, count: int, by: str, runtime: Runtime) -> Nearest:
    """The `count` nearest other entities of one, or all if they are fewer. Collective.

    Args:
        by: a name of `NEARNESS`, which is computed in float64.
    Raises:
        InputError: a row has numbers that are nan or infinite, or the model learns no entity vectors.
    """
    if not model.has_vectors:
        raise InputError("entity: this model learns no entity vectors, so no entity is near another")
    own = torch.tensor([entity], device=model.site.device)
    row = model.entity(own).double()

    def nearness(candidates: Candidates) -> Float[Tensor, "1 n"]:
        return NEARNESS[by](row, candidates.rows()[0].double())

    count = min(count, len(model.entity.row_of_entity) - 1)
    with progress_bar("entities", len(model.entity.weight), runtime) as progress:
        left_out = (torch.zeros_like(own), own)
        found = best_of_table(model, nearness, 1, count, left_out=left_out, among=None, progress=progress)
    return Nearest(*(each[0].cpu() for each in found.filled()))


@torch.no_grad()
def similar_relations(model: KGEModel, relation: int, *, count: int, by: str) -> Nearest:
    """The same for relations. With reciprocal relations, the rows of the inverse ones are not compared."""
    rows = model.scorer.relation_rows(torch.arange(model.site.num_relations, device=model.site.device)).double().cpu()
    near = NEARNESS[by](rows[relation, None], rows)[0]
    near[relation] = -torch.inf
    near, number = near.sort(descending=True, stable=True)
    return Nearest(number[: min(count, len(rows) - 1)], near[: min(count, len(rows) - 1)])
