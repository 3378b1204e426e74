"""Encoders for tests, and what they should make, computed edge by edge."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from embedding.encoder.attention import Attention
from embedding.encoder.choice import EncoderChoice
from embedding.encoder.compgcn import CompGCN
from embedding.encoder.encoder import Encoder
from embedding.encoder.linear import Linear
from embedding.encoder.rgcn import RGCN
from embedding.model import KGEModel
from graph.knowledge_graph import KnowledgeGraph
from tests.worlds import distmult, graph_of, model_of, site_of
from trainer.runtime import Runtime

KINDS: dict[str, Callable[..., Encoder]] = {
    "linear": Linear,
    "compgcn sub": partial(CompGCN, composition="sub"),
    "compgcn mult": partial(CompGCN, composition="mult"),
    "compgcn corr": partial(CompGCN, composition="corr"),
    "rgcn basis": partial(RGCN, decomposition="basis", parts=2, normalisation="relation"),
    "rgcn block": partial(RGCN, decomposition="block", parts=2, normalisation="entity"),
    "attention": partial(Attention, heads=2),
}

LAYER: dict[str, Any] = {
    "layers": 1,
    "dropout": 0.0,
    "residual": False,
    "fanout": None,
    "batch_norm": False,
    "leave_out": "facts",
}
"""The options that all encoders have."""


def small_graph() -> KnowledgeGraph:
    """Ten entities, three relations: with a loop, a fact that is there twice, a fact both ways, and entity 9 alone."""
    triples = [(0, 0, 1), (1, 0, 2), (2, 1, 0), (3, 1, 4), (4, 1, 3), (5, 2, 5), (6, 2, 7), (7, 0, 8), (0, 0, 2)]
    return graph_of([*triples, (0, 1, 2), (3, 0, 1), (6, 2, 7), (8, 2, 0), (5, 1, 2)], 10, 3)


def encoded(
    kind: str,
    graph: KnowledgeGraph,
    runtime: Runtime | None = None,
    *,
    layers: int = 2,
    dropout: float = 0.0,
    residual: bool = False,
    fanout: list[int] | None = None,
    batch_norm: bool = False,
    leave_out: str = "facts",
    dim: int = 6,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> KGEModel:
    """A model with an encoder in front, and parameters that are none of them 0."""
    make = partial(KINDS[kind], **LAYER | {"layers": layers, "dropout": dropout, "residual": residual})
    make = partial(make, fanout=fanout, batch_norm=batch_norm, leave_out=leave_out)
    options = {"scoring": distmult, "init_scale": 0.7, "relation_init_scale": 0.7} | options
    choice = EncoderChoice(make, graph.train)
    model = model_of(site_of(graph, runtime, dtype=dtype), dim=dim, encoder=choice, **options)
    assert model.encoding is not None
    for name, value in model.encoding.encoder.named_parameters():
        if name.startswith(("bias", "norms")):
            value.detach().add_(torch.linspace(-0.3, 0.4, len(value)) + 0.1 * int(name.split(".")[1]))
    model.encode()
    return model


def plain_rows(
    kind: str, model: KGEModel, facts: list[tuple[int, ...]], *, in_step: bool = False
) -> tuple[Tensor, Tensor]:
    """The rows of entities, by id, and of relations that a layer-by-layer loop over these facts makes.

    Args:
        in_step: batch norm uses the statistics of these rows, not running ones.
    """
    assert model.encoding is not None
    encoder = model.encoding.encoder
    named = {name: tensor.detach() for name, tensor in encoder.state_dict().items()}
    learned = model.entity.gather_all(model.learned_rows).detach().clone()
    rows, biases = learned.tensor_split([encoder.site.entity_width], dim=1)
    relations = model.learned_relations.detach().clone()
    seen, count = len(relations), model.site.num_relations
    if "inverse" in named:
        relations = torch.cat([relations, named["inverse"]])
    edges = [edge for h, r, t in facts for edge in ((h, r, t), (t, r + count, h))]
    make, activate = _LAYERS[kind.split(maxsplit=1)[0]]
    last = encoder.num_layers - 1
    for layer in range(last + 1):
        own = {name.rsplit(".", 1)[0]: value for name, value in named.items() if name.endswith(f".{layer}")}
        own.setdefault("bias", torch.zeros(rows.shape[1], dtype=rows.dtype))
        rows, relations = make(kind, own, rows, relations, edges, facts)
        if encoder.norms is not None:
            names = ("running_mean", "running_variance", "scale", "shift")
            mean, variance, scale, shift = (named[f"norms.{layer}.{name}"] for name in names)
            if in_step:
                mean, variance = rows.mean(0), rows.var(0, correction=0)
            rows = (rows - mean) / (variance + 1e-5).sqrt() * scale + shift
        rows = activate(rows, layer == last)
    return torch.cat([rows, biases], 1), relations[:seen]


def _linear(kind, own, rows, relations, edges, facts):
    return rows @ own["weight"] + own["bias"], relations


def _compose(kind: str, x: Tensor, r: Tensor) -> Tensor:
    if kind.endswith("corr"):
        width = len(x)
        return torch.stack([sum(x[i] * r[(i + k) % width] for i in range(width)) for k in range(width)])
    return x - r if kind.endswith("sub") else x * r


def _compgcn(kind, own, rows, relations, edges, facts):
    loop = own["loop"][0] if "loop" in own else torch.zeros_like(rows[0])  # none with batch norm and sub
    made = torch.stack([_compose(kind, row, loop) @ own["weight_loop"] for row in rows])
    for h, r, t in facts:
        norm = (sum(f[0] == h for f in facts) * sum(f[2] == t for f in facts)) ** -0.5
        inverse = relations[r + len(relations) // 2]
        made[t] += norm * _compose(kind, rows[h], relations[r]) @ own["weight_in"]
        made[h] += norm * _compose(kind, rows[t], inverse) @ own["weight_out"]
    return made / 3 + own["bias"], relations @ own["weight_relation"]


def _rgcn(kind, own, rows, relations, edges, facts):
    width, of_relation = rows.shape[1], own["of_relation"]
    made = rows @ own["loop"] + own["bias"]
    for source, r, target in edges:
        if kind.endswith("basis"):
            bases = own["bases"].view(2, width, width)
            matrix = of_relation[r, 0] * bases[0] + of_relation[r, 1] * bases[1]
            norm = sum((e[1], e[2]) == (r, target) for e in edges)
        else:
            matrix = torch.block_diag(*of_relation[r].view(2, width // 2, width // 2))
            norm = sum(e[2] == target for e in edges)
        made[target] += rows[source] @ matrix / norm
    return made, relations


def _attention(kind, own, rows, relations, edges, facts):
    made = rows @ own["loop"] + own["bias"]
    heads = 2
    for target in range(len(rows)):
        into = [edge for edge in edges if edge[2] == target]
        logits = [
            rows[target] @ own["own_logit"] + rows[s] @ own["neighbour_logit"] + relations[r] @ own["relation_logit"]
            for s, r, _ in into
        ]
        if not into:
            continue
        share = torch.nn.functional.leaky_relu(torch.stack(logits), 0.2).softmax(0)
        for (s, r, _), weight in zip(into, share, strict=True):
            message = (rows[s] @ own["value"] + relations[r] @ own["relation_value"]).view(heads, -1)
            made[target] += (weight[:, None] * message).flatten()
    return made, relations


def _tanh(rows: Tensor, is_last: bool) -> Tensor:
    return torch.tanh(rows)


_LAYERS: dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], Callable[[Tensor, bool], Tensor]]] = {
    "linear": (_linear, _tanh),
    "compgcn": (_compgcn, _tanh),
    "rgcn": (_rgcn, lambda rows, is_last: rows if is_last else torch.relu(rows)),
    "attention": (_attention, lambda rows, is_last: rows if is_last else torch.nn.functional.elu(rows)),
}
