"""Diversity of negatives: within a query, and over all entities."""

import math

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor


def distinct_share(entity: Int64[Tensor, "B D"], kept: Bool[Tensor, "B D"], num_entities: int) -> Float64[Tensor, " B"]:
    """The number of distinct entities among each row's kept draws divided by the number of these draws; 0 if none."""
    ordered = torch.where(kept, entity, num_entities).sort(1).values  # draws that are not kept come last
    first = torch.ones_like(kept)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return (first & (ordered < num_entities)).sum(1).double() / kept.sum(1).clamp(min=1)


def pooled_entropy(count: Int64[Tensor, " E"]) -> float:
    """The entropy of the draws over the E entities divided by log E: 1 if all were drawn equally often."""
    share = count.double() / count.sum().clamp(min=1)
    return float(torch.special.entr(share).sum()) / math.log(max(len(count), 2))


def coverage(count: Int64[Tensor, " E"]) -> float:
    """The share of entities that were drawn at least once."""
    return float((count > 0).double().mean())
