"""A map of a model's entities: the two directions in which a sample of their rows differs most."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from embedding.model import KGEModel
from graph.distinct_sample import distinct_sample
from graph.knowledge_graph import KnowledgeGraph
from reporting.page import Plot
from reporting.style import TEXT, Look, as_svg, drawing, legend_below, shown_name

MOST = 2000
"""Entities on the map."""
_MOST_SLOTS = 7
_REST = "others"


def draw_map(model: KGEModel, graph: KnowledgeGraph) -> Plot | None:
    """A plot of a sample of the entities of train, coloured by what they are most often; None for fewer than three,
    and for a model without entity vectors.
    """
    if not model.has_vectors:
        return None
    in_train = torch.unique(graph.train[:, [0, 2]]).long()
    entity = in_train[distinct_sample("entities of a map", len(in_train), MOST, 0)]
    if len(entity) < 3:
        return None
    place, share = _first_two(model.entity(entity.to(model.site.device)).detach().cpu())
    slot = _most_frequent_slots(graph, entity)
    counts = torch.bincount(slot, minlength=2 * graph.num_relations)
    order = counts.argsort(descending=True, stable=True)[:_MOST_SLOTS].tolist()
    groups = {_slot_name(graph, each): slot == each for each in order if counts[each]}
    rest = ~torch.stack(list(groups.values())).any(0)
    with drawing() as plt:
        figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
        if rest.any():
            axis.scatter(*place[rest].T, s=8, color=TEXT, alpha=0.4, linewidths=0, label=f"{_REST} ({int(rest.sum())})")
        for number, (name, of_group) in enumerate(groups.items()):
            look = Look.of(number)
            points = {
                "s": 14,
                "marker": look.marker,
                "facecolors": "none",
                "edgecolors": look.colour,
                "linewidths": 0.8,
            }
            axis.scatter(*place[of_group].T, label=f"{name} ({int(of_group.sum())})", alpha=0.75, **points)
        axis.set_xlabel(f"first principal component ({share[0]:.0%} of the variance)")
        axis.set_ylabel(f"second ({share[1]:.0%})")
        legend_below(figure, [axis])
        svg = as_svg(figure)
    said = ", ".join(f"{int(of_group.sum())} are most often {name}" for name, of_group in groups.items())
    note = (
        f"{len(entity):,} of {len(in_train):,} entities of train. Near on the map may be far in the other dimensions."
    )
    return Plot("entity_map", svg, "Map of entities", f"Principal components of {len(entity)} entities: {said}.", note)


def _first_two(rows: Float[Tensor, "S E"]) -> tuple[Float64[Tensor, "S 2"], list[float]]:
    """The rows along their two principal components, and these components' shares of the variance."""
    centred = rows.double() - rows.double().mean(0)
    _, size, direction = torch.linalg.svd(centred, full_matrices=False)
    direction = direction[:2]
    # A component's sign is arbitrary: its largest entry is made positive.
    sign = direction.gather(1, direction.abs().argmax(1, keepdim=True)).sign()
    variance = size.square()
    share = (variance[:2] / variance.sum().clamp(min=1e-300)).tolist()
    return centred @ (direction * sign).T, share


def _most_frequent_slots(graph: KnowledgeGraph, entity: Int64[Tensor, " S"]) -> Int64[Tensor, " S"]:
    """For each entity the slot that it fills most often in train: relation r's heads are slot 2r, its tails 2r + 1."""
    slots = 2 * graph.num_relations
    head, relation, tail = graph.train.unbind(1)
    who, slot, entity = torch.cat([head, tail]), torch.cat([2 * relation, 2 * relation + 1]), entity.int()
    asked = torch.isin(who, entity)
    pair, count = torch.unique(torch.searchsorted(entity, who[asked]) * slots + slot[asked], return_counts=True)
    # By entity, and of each entity the most frequent slot last.
    pair = pair[(pair // slots * (int(count.max()) + 1) + count).argsort(stable=True)]
    last = torch.cat([(pair // slots).diff() != 0, torch.ones(1, dtype=torch.bool)])
    return pair[last] % slots


def _slot_name(graph: KnowledgeGraph, slot: int) -> str:
    side: Sequence[str] = ("head", "tail")
    return f"{side[slot % 2]} of {shown_name(graph.relation_names[slot // 2])}"
