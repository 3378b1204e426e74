"""Which of PyKEEN's interactions gives the scores of a scoring function, and what rows and parameters it takes.

PyKEEN's interaction of the same name does not always compute the same score. RotatE's takes the L2 norm over
coordinates instead of the sum of moduli; SimplE's multiplies the head vectors of both entities. There another
interaction has the score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.scoring.batch_norm import BatchNorm
from embedding.scoring.complex import ComplEx
from embedding.scoring.conve import ConvE
from embedding.scoring.distmult import DistMult
from embedding.scoring.pairre import PairRE
from embedding.scoring.quate import QuatE
from embedding.scoring.rescal import RESCAL
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.simple import SimplE
from embedding.scoring.transe import TransE
from embedding.scoring.transh import TransH
from embedding.scoring.transr import TransR
from embedding.scoring.tucker import TuckER
from embedding.scoring.unit import unit

Representations = Callable[[Float[Tensor, "n W"]], list[Tensor]]
"""Maps our rows to PyKEEN's representations of the same entities or relations, [n, ...] each."""


def _as_they_are(rows: Float[Tensor, "n W"]) -> list[Tensor]:
    return [rows]


@dataclass(frozen=True)
class Counterpart:
    """An interaction of PyKEEN whose score is that of a scoring function of ours.

    Args:
        interaction: its name without "Interaction" at the end.
        options: what it is made with.
        entity, relation: map our rows to its representations.
        state: its parameters, and those of its buffers that training changes, by their names in PyKEEN.
    """

    interaction: str
    options: Mapping[str, Any] = field(default_factory=dict)
    entity: Representations = _as_they_are
    relation: Representations = _as_they_are
    state: Mapping[str, Tensor] = field(default_factory=dict)


def _complex(rows: Float[Tensor, "n W"]) -> list[Tensor]:
    """Our rows hold all real parts, then all imaginary parts."""
    return [torch.complex(*rows.chunk(2, dim=1))]


def _halves(rows: Float[Tensor, "n W"]) -> list[Tensor]:
    return list(rows.chunk(2, dim=1))


def _transe(scoring: TransE) -> Counterpart:
    return Counterpart("TransE", {"p": scoring.norm})


def _transh(_: TransH) -> Counterpart:
    def relation(rows: Tensor) -> list[Tensor]:
        translation, normal = rows.chunk(2, dim=1)
        return [unit(normal), translation]

    return Counterpart("TransH", {"p": 2, "power_norm": True}, relation=relation)


def _transr(scoring: TransR) -> Counterpart:
    def relation(rows: Tensor) -> list[Tensor]:
        translation, matrix = rows.split([scoring.relation_dim, scoring.relation_dim * scoring.dim], dim=1)
        return [translation, matrix.unflatten(1, (scoring.relation_dim, scoring.dim)).transpose(1, 2)]

    # PyKEEN keeps what is mapped in a ball, here one that holds everything.
    return Counterpart("TransR", {"p": 2, "power_norm": True, "max_projection_norm": 1e9}, relation=relation)


def _rotate(_: RotatE) -> Counterpart:
    # PairRE scales both ends: the head by a number on the unit circle, the tail by 1. L1 of complex numbers is the sum
    # of their moduli.
    def relation(rows: Tensor) -> list[Tensor]:
        turn = torch.polar(torch.ones_like(rows), rows)
        return [turn, torch.ones_like(turn)]

    return Counterpart("PairRE", {"p": 1}, _complex, relation)


def _simple(_: SimplE) -> Counterpart:
    # CP has another vector of an entity as tail than as head, which for SimplE are the same two in another order.
    def entity(rows: Tensor) -> list[Tensor]:
        as_head, as_tail = rows.chunk(2, dim=1)
        return [torch.stack([as_head, as_tail], dim=1), torch.stack([as_tail, as_head], dim=1)]

    return Counterpart("CP", {}, entity, lambda rows: [torch.stack(rows.chunk(2, dim=1), dim=1) / 2])


def _rescal(scoring: RESCAL) -> Counterpart:
    return Counterpart("RESCAL", relation=lambda rows: [rows.unflatten(1, (scoring.dim, scoring.dim))])


def _quate(_: QuatE) -> Counterpart:
    # PyKEEN's score has the other sign.
    def quaternions(rows: Tensor) -> list[Tensor]:
        return [rows.unflatten(1, (4, -1)).transpose(1, 2)]

    return Counterpart("QuatE", {}, quaternions, lambda rows: [-unit(each) for each in quaternions(rows)])


def _pairre(_: PairRE) -> Counterpart:
    return Counterpart("PairRE", {"p": 1}, lambda rows: [unit(rows)], _halves)


def _tucker(scoring: TuckER) -> Counterpart:
    dropout = {"head_dropout": 0.0, "relation_dropout": 0.0, "head_relation_dropout": 0.0}
    sizes = {"embedding_dim": scoring.dim, "relation_dim": scoring.relation_dim}
    norms = {"head_batch_norm": scoring.head_norm, "head_relation_batch_norm": scoring.query_norm}
    options = {**sizes, **dropout, "apply_batch_normalization": scoring.head_norm is not None}
    return Counterpart("TuckER", options, state={"core_tensor": scoring.core, **_norms(norms)})


def _conve(scoring: ConvE) -> Counterpart:
    dropout = {"input_dropout": 0.0, "feature_map_dropout": 0.0, "output_dropout": 0.0}
    sizes = {
        "embedding_dim": scoring.dim,
        "embedding_height": scoring.height,
        "input_channels": 1,
        "output_channels": scoring.num_filters,
        "kernel_width": scoring.kernel,
    }
    has_norm = scoring.image_norm is not None
    # The layers are numbered. With batch norm, one comes first, and there is no bias in front of one.
    filters, side = f"hr2d.{2 if has_norm else 1}", scoring.kernel
    norms = {"hr2d.0": scoring.image_norm, "hr2d.3": scoring.map_norm, "hr1d.2": scoring.vector_norm}
    bias = {f"{filters}.bias": scoring.filters_bias, "hr1d.0.bias": scoring.matrix_bias}
    widths = {f"{filters}.bias": scoring.num_filters, "hr1d.0.bias": scoring.dim}
    state = {
        f"{filters}.weight": scoring.filters.T.reshape(scoring.num_filters, 1, side, side),
        "hr1d.0.weight": scoring.matrix.T,
        **{name: torch.zeros(widths[name]) if each is None else each for name, each in bias.items()},
        **_norms(norms),
    }

    def entity(rows: Tensor) -> list[Tensor]:
        return [rows[:, :-1], rows[:, -1]]

    return Counterpart("ConvE", {**sizes, **dropout, "apply_batch_normalization": has_norm}, entity, state=state)


def _norms(norms: Mapping[str, BatchNorm | None]) -> dict[str, Tensor]:
    """The state of torch's batch norms, which have the same epsilon, by the names of the layers."""
    state: dict[str, Tensor] = {}
    for name, norm in norms.items():
        if norm is not None:
            state |= {f"{name}.weight": norm.scale, f"{name}.bias": norm.shift}
            state |= {f"{name}.running_mean": norm.running_mean, f"{name}.running_var": norm.running_variance}
    return state


_COUNTERPARTS: dict[type[ScoringFunction], Callable[[Any], Counterpart]] = {
    TransE: _transe,
    TransH: _transh,
    TransR: _transr,
    DistMult: lambda _: Counterpart("DistMult"),
    ComplEx: lambda _: Counterpart("ComplEx", {}, _complex, _complex),
    SimplE: _simple,
    RESCAL: _rescal,
    RotatE: _rotate,
    QuatE: _quate,
    TuckER: _tucker,
    ConvE: _conve,
    PairRE: _pairre,
}


def counterpart(scoring: ScoringFunction) -> Counterpart | None:
    """PyKEEN's interaction with this score; None if it has none."""
    make = _COUNTERPARTS.get(type(scoring))
    return None if make is None else make(scoring)


def with_counterpart() -> list[str]:
    """The names of the scoring functions that have one."""
    return [each.__name__ for each in _COUNTERPARTS]
