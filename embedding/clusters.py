"""Clusters of entity rows, and an order of the clusters in which neighbours are alike."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from embedding.entity_blocks import entity_blocks
from embedding.model import KGEModel
from graph.counter_random import random_uniform


@torch.no_grad()
def k_means(
    model: KGEModel, count: int, iterations: int, key: int
) -> tuple[Int64[Tensor, " E"], Float64[Tensor, "K D"]]:
    """The cluster of each entity and the centroids, after some iterations of Lloyd's algorithm.

    It starts from the rows of `count` distinct entities, drawn by the random stream `key`; a cluster that loses all its
    entities keeps its centroid. Every rank computes the whole, in float64, with the same result. Collective.
    """
    num_entities = len(model.entity.row_of_entity)
    uniform = random_uniform(key, torch.arange(num_entities, device=model.site.device))
    centroid = model.entity(uniform.topk(count).indices).double()
    for _ in range(iterations):
        total, size = torch.zeros_like(centroid), centroid.new_zeros(count)
        for _, rows in entity_blocks(model):
            # A product, not an indexed sum: on a GPU only that has one order, and so one result on all ranks.
            member = one_hot(_nearest(rows, centroid), count).double()
            total += member.T @ rows.double()
            size += member.sum(0)
        centroid = torch.where(size[:, None] > 0, total / size[:, None].clamp(min=1), centroid)
    return torch.cat([_nearest(rows, centroid) for _, rows in entity_blocks(model)]), centroid


def _nearest(rows: Float[Tensor, "n D"], centroid: Float64[Tensor, "K D"]) -> Int64[Tensor, " n"]:
    return (centroid.square().sum(1) - 2 * (rows.double() @ centroid.T)).argmin(1)


def greedy_path(centroid: Float64[Tensor, "K D"]) -> Int64[Tensor, " K"]:
    """The centroids in an order that goes, from the first on, to the nearest one that is left."""
    distance = torch.cdist(centroid, centroid)
    path = [0]
    while len(path) < len(centroid):
        distance[:, path[-1]] = torch.inf
        path.append(int(distance[path[-1]].argmin()))
    return torch.tensor(path, device=centroid.device)
