"""Layers of CompGCN and R-GCN make what PyKEEN's make of the same rows and weights."""

import pytest
import torch
from pykeen.nn.message_passing import RGCNLayer
from pykeen.nn.representation import CompGCNLayer
from torch import Tensor, nn

from embedding.model import KGEModel
from tests.encoders import encoded, small_graph
from tests.worlds import batch_of

GRAPH = small_graph()
TRIPLES = GRAPH.train.unique(dim=0)
HEAD, RELATION, TAIL = TRIPLES.unbind(1)


def learned(model: KGEModel) -> tuple[Tensor, dict[str, Tensor]]:
    assert model.encoding is not None
    named = {name: value.detach() for name, value in model.encoding.encoder.named_parameters()}
    return model.entity.gather_all(model.learned_rows), named


def fill(**pairs: Tensor) -> None:
    """Nothing of PyKEEN's parameters is left at random."""
    for into, value in pairs.values():
        assert into.shape == value.shape
        into.detach().copy_(value)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("composition", "peer"),
    [
        ("sub", "SubtractionCompositionModule"),
        ("mult", "MultiplicationCompositionModule"),
        ("corr", "CircularCorrelationCompositionModule"),
    ],
)
def test_compgcn_is_pykeens(composition: str, peer: str, batch_norm: bool):
    model = encoded(f"compgcn {composition}", GRAPH, layers=1, reciprocal=True, batch_norm=batch_norm)
    rows, own = learned(model)
    layer = CompGCNLayer(6, composition=peer, activation=nn.Tanh).double()
    assert layer.bias is not None
    if batch_norm:
        fill(scale=(layer.bn.weight, own["norms.0.scale"]), shift=(layer.bn.bias, own["norms.0.shift"]))
    else:
        layer.bn = nn.Identity()
    none = torch.zeros(6, dtype=torch.float64)  # of what ours leaves out with batch norm, and what has no effect there
    fill(
        w_fwd=(layer.w_fwd, own["weight_in.0"]),
        w_bwd=(layer.w_bwd, own["weight_out.0"]),
        w_loop=(layer.w_loop, own["weight_loop.0"]),
        w_rel=(layer.w_rel.weight, own["weight_relation.0"].T),
        self_loop=(layer.self_loop, own.get("loop.0", none[None])),
        bias=(layer.bias.bias, own.get("bias.0", none)),
    )
    # PyKEEN has each relation beside its inverse, ours has all inverses after all relations.
    beside = torch.arange(6).view(2, 3).T.flatten()
    given = rows, model.learned_relations.detach()[beside], torch.stack([HEAD, TAIL]), RELATION
    rounded = {"rtol": 1e-6, "atol": 1e-6}  # PyKEEN's weights of edges are float32
    if batch_norm:
        # A step of padding alone leaves out no edge, and moves the running statistics.
        padding = batch_of(TRIPLES[:1])
        padding.weight.zero_()
        model.begin_step(padding)
        entity, _ = layer(*given)
        torch.testing.assert_close(model.entity.gather_all(model.entity.weight), entity.detach(), **rounded)
        model.end_step()
        model.encode()
    entity, relation = layer.eval()(*given)
    torch.testing.assert_close(model.entity.gather_all(model.entity.weight), entity.detach(), **rounded)
    torch.testing.assert_close(model.scorer.relation.detach()[beside], relation.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("decomposition", ["basis", "block"])
def test_rgcn_is_pykeens(decomposition: str):
    model = encoded(f"rgcn {decomposition}", GRAPH, layers=1)
    rows, own = learned(model)
    options = {"num_bases": 2} if decomposition == "basis" else {"num_blocks": 2}
    name = {"basis": "bases", "block": "block"}[decomposition]
    layer = RGCNLayer(3, 6, decomposition=name, decomposition_kwargs=options).double().eval()
    fill(loop=(layer.self_loop.weight, own["loop.0"].T), bias=(layer.self_loop.bias, own["bias.0"]))
    for part, of_relation in ((layer.fwd, own["of_relation.0"][:3]), (layer.bwd, own["of_relation.0"][3:])):
        if decomposition == "basis":
            part.base_weights.detach().copy_(of_relation)
            part.bases.detach().copy_(own["bases.0"].view(2, 6, 6))
        else:
            part.blocks.detach().copy_(of_relation.view(3, 2, 3, 3))
    found = layer.self_loop(rows)
    for part, source, target, inverse in ((layer.fwd, HEAD, TAIL, 0), (layer.bwd, TAIL, HEAD, 3)):
        weights = shares(decomposition, target, inverse)
        # What PyKEEN calls the source of an edge is the row that the message is added to.
        found = part(rows, target, source, RELATION, edge_weights=weights, accumulator=found)
    torch.testing.assert_close(model.entity.gather_all(model.entity.weight), found.detach(), rtol=1e-10, atol=1e-12)


def shares(decomposition: str, target: Tensor, inverse: int) -> Tensor:
    """1 / the edges into an entity, of the same relation or (as `encoded` has it for blocks) of any."""
    into = torch.cat([TAIL, HEAD])
    if decomposition == "block":
        return 1 / torch.bincount(into, minlength=10)[target].double()
    group = into * 6 + torch.cat([RELATION, RELATION + 3])
    return 1 / torch.bincount(group, minlength=60)[target * 6 + RELATION + inverse].double()
