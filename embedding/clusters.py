"""K-means clusters of entity rows, and an order of the clusters in which neighbours are similar."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.entity_blocks import entity_blocks
from embedding.model import KGEModel
from graph.counter_random import random_uniform
from kernels.largest import largest


@torch.no_grad()
def k_means(
    model: KGEModel, count: int, iterations: int, key: int
) -> tuple[Int64[Tensor, " E"], Float64[Tensor, "K D"]]:
    """The cluster of each entity, and the centroids, after `iterations` of Lloyd's algorithm. Collective.

    The first centroids are the rows of `count` distinct entities, drawn with the random stream `key`. A cluster without
    entities keeps its centroid. Every rank computes everything, in float64, with the same result.
    """
    num_entities = len(model.entity.row_of_entity)
    uniform = random_uniform(key, torch.arange(num_entities, device=model.site.device))
    centroid = model.entity(largest(uniform[None], count)[0]).double()
    cluster = torch.arange(count, device=centroid.device)
    for _ in range(iterations):
        total, size = torch.zeros_like(centroid), centroid.new_zeros(count)
        for _, rows in entity_blocks(model):
            # A product, not index_add: on a GPU the order of index_add, and so its result, differs between ranks.
            member = (_nearest(rows, centroid)[:, None] == cluster).double()
            total += member.T @ rows.double()
            size += member.sum(0)
        centroid = torch.where(size[:, None] > 0, total / size[:, None].clamp(min=1), centroid)
    return torch.cat([_nearest(rows, centroid) for _, rows in entity_blocks(model)]), centroid


def _nearest(rows: Float[Tensor, "n D"], centroid: Float64[Tensor, "K D"]) -> Int64[Tensor, " n"]:
    return (centroid.square().sum(1) - 2 * (rows.double() @ centroid.T)).argmin(1)


def greedy_path(centroid: Float64[Tensor, "K D"]) -> Int64[Tensor, " K"]:
    """An order of the centroids: starts at 0 and goes to the nearest centroid that was not visited yet."""
    distance = torch.cdist(centroid, centroid)
    path = [0]
    while len(path) < len(centroid):
        distance[:, path[-1]] = torch.inf
        path.append(int(distance[path[-1]].argmin()))
    return torch.tensor(path, device=centroid.device)
