"""Scores against PyKEEN's interaction of the same name, for every scoring function of ours that PyKEEN 1.11.1 has.

Our papers' formulas and PyKEEN's differ in places; each case says where, and maps our rows to what PyKEEN takes.
"""

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from embedding.scoring.complex import ComplEx
from embedding.scoring.conve import ConvE
from embedding.scoring.distmult import DistMult
from embedding.scoring.pairre import PairRE
from embedding.scoring.quate import QuatE
from embedding.scoring.rescal import RESCAL
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.simple import SimplE
from embedding.scoring.transd import TransD
from embedding.scoring.transe import TransE
from embedding.scoring.transh import TransH
from embedding.scoring.transr import TransR
from embedding.scoring.tucker import TuckER
from tests.plain_scores import SHIPPED
from tests.worlds import conve as make_conve
from tests.worlds import tucker as make_tucker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what PyKEEN imports
    from pykeen.nn import modules as peer

Compared = Callable[[ScoringFunction, Tensor, Tensor, Tensor], Tensor]
DIM = 12


def complex_of(row: Tensor) -> Tensor:
    return torch.complex(*row.chunk(2, dim=-1))


def transe(norm: int) -> Compared:
    return lambda _, h, r, t: peer.TransEInteraction(p=norm)(h, r, t)


def transd(norm: int) -> Compared:
    # PyKEEN also keeps what is mapped in the unit ball: rows are made so small that it has nothing to do.
    interaction = peer.TransDInteraction(p=norm, power_norm=False)
    return lambda _, *rows: interaction(*(row.chunk(2, dim=-1) for row in rows))


def transh(_: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    # PyKEEN leaves it to its model that normals have length 1.
    translation, normal = r.chunk(2, dim=-1)
    return peer.TransHInteraction(p=2, power_norm=True)(h, (nn.functional.normalize(normal, dim=-1), translation), t)


def transr(function: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    # Its matrix is transposed; it keeps what is mapped in a ball, here one that holds everything.
    assert isinstance(function, TransR)
    translation, matrix = r.split([function.relation_dim, function.relation_dim * DIM], dim=-1)
    matrix = matrix.unflatten(-1, (function.relation_dim, DIM)).transpose(1, 2)
    return peer.TransRInteraction(p=2, power_norm=True, max_projection_norm=1e9)(h, (translation, matrix), t)


def rotate(_: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    # PyKEEN takes the L2 norm over coordinates and the paper's code the sum of moduli: each coordinate by itself.
    turn = torch.polar(torch.ones_like(r), r)
    return peer.RotatEInteraction()(*(row[..., None] for row in (complex_of(h), turn, complex_of(t)))).sum(-1)


def simple(_: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    # PyKEEN multiplies the head's first vector with the tail's first, where the paper (and PyKEEN's own docstring) has
    # the vector as head with the vector as tail: it gets the tail's the other way round.
    (as_head, as_tail), relations, (tail_as_head, tail_as_tail) = (row.chunk(2, dim=-1) for row in (h, r, t))
    return peer.SimplEInteraction()((as_head, as_tail), relations, (tail_as_tail, tail_as_head))


def quate(_: ScoringFunction, *rows: Tensor) -> Tensor:
    # Its sign is the other one, and it leaves it to its model that turns have length 1.
    h, r, t = (row.unflatten(-1, (4, -1)).transpose(-1, -2) for row in rows)
    return -peer.QuatEInteraction().double()(h, nn.functional.normalize(r, dim=-1), t)


def tucker(function: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    assert isinstance(function, TuckER)
    dropout = {"head_dropout": 0.0, "relation_dropout": 0.0, "head_relation_dropout": 0.0}
    options = {"relation_dim": function.relation_dim, "apply_batch_normalization": False}
    interaction = peer.TuckERInteraction(embedding_dim=DIM, **options, **dropout)
    interaction.core_tensor = function.core
    return interaction(h, r, t)


def conve(function: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    assert isinstance(function, ConvE)
    shape = {"embedding_dim": DIM, "embedding_height": function.height, "output_channels": function.num_filters}
    dropout = {"input_dropout": 0.0, "feature_map_dropout": 0.0, "output_dropout": 0.0}
    interaction = peer.ConvEInteraction(
        input_channels=1, kernel_width=function.kernel, apply_batch_normalization=False, **shape, **dropout
    ).double()
    filters, linear = interaction.hr2d[1], interaction.hr1d[0]
    with torch.no_grad():
        filters.weight.copy_(function.filters.T.view(filters.weight.shape))
        filters.bias.copy_(function.filters_bias)
        linear.weight.copy_(function.matrix.T)
        linear.bias.copy_(function.matrix_bias)
    return interaction(h[..., :-1], r, (t[..., :-1], t[..., -1]))


def pairre(_: ScoringFunction, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
    # PyKEEN leaves it to its model that entities have length 1.
    h, t = (nn.functional.normalize(row, dim=-1) for row in (h, t))
    return peer.PairREInteraction(p=1)(h, r.chunk(2, dim=-1), t)


CASES: dict[str, tuple[Callable[[int], ScoringFunction], Compared]] = {
    "TransE L1": (partial(TransE, norm=1, precision="float32"), transe(1)),
    "TransE L2": (partial(TransE, norm=2, precision="float32"), transe(2)),
    "TransD L1": (partial(TransD, norm=1), transd(1)),
    "TransD L2": (partial(TransD, norm=2), transd(2)),
    "TransH": (TransH, transh),
    "TransR": (partial(TransR, relation_dim=5), transr),
    "DistMult": (partial(DistMult, precision="float32"), lambda _, h, r, t: peer.DistMultInteraction()(h, r, t)),
    "ComplEx": (
        partial(ComplEx, precision="float32"),
        lambda _, *rows: peer.ComplExInteraction()(*map(complex_of, rows)),
    ),
    "SimplE": (partial(SimplE, precision="float32"), simple),
    "RESCAL": (
        partial(RESCAL, precision="float32"),
        lambda _, h, r, t: peer.RESCALInteraction()(h, r.unflatten(-1, (DIM, DIM)), t),
    ),
    "RotatE": (RotatE, rotate),
    "QuatE": (partial(QuatE, precision="float32"), quate),
    "TuckER": (partial(make_tucker, relation_dim=5), tucker),
    "ConvE": (partial(make_conve, kernel=2, num_filters=4), conve),
    "PairRE": (PairRE, pairre),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_pykeens(name: str):
    make, compared = CASES[name]
    function = make(DIM)
    function.fill_dense("a test", 1)
    generator = torch.Generator().manual_seed(2)
    widths = function.entity_width, function.relation_width, function.entity_width
    scale = 0.1 if name.startswith("TransD") else 1.0
    h, r, t = (scale * torch.randn((9, width), generator=generator, dtype=torch.float64) for width in widths)
    with torch.no_grad():
        for parameter in function.parameters():  # biases too
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        torch.testing.assert_close(function.score(h, r, t), compared(function, h, r, t), rtol=1e-10, atol=1e-12)


def test_no_function_that_pykeen_has_is_left_out():
    theirs = {name.removesuffix("Interaction").lower() for name in vars(peer) if name.endswith("Interaction")}
    assert SHIPPED & theirs == {name.split()[0].lower() for name in CASES}
