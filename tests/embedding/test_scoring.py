"""What every scoring function promises, whichever it is, beside the formula of each."""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import embedding.scoring
import kernels.library
from embedding.scoring import scoring
from embedding.scoring.candidates import Candidates
from embedding.scoring.complex import ComplEx
from embedding.scoring.distmult import DistMult
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transd import TransD
from embedding.scoring.transe import TransE
from graph.errors import InputError

Rows = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[int], ScoringFunction]
    plain: Callable[[Rows, Rows, Rows], float]
    """The score of one triple in numpy, written from the paper."""
    perfect_tail: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """For a distance: the tail at distance 0 from (head, relation); the third argument is a tail to start from."""


def complex_rows(row: Rows) -> np.ndarray[Any, np.dtype[np.complex128]]:
    real, imaginary = np.split(row, 2)
    return real + 1j * imaginary


def transe(norm: int) -> Callable[[Rows, Rows, Rows], float]:
    return lambda h, r, t: -(sum(abs(h + r - t) ** norm) ** (1 / norm))


def transd(norm: int) -> Callable[[Rows, Rows, Rows], float]:
    def plain(head: Rows, relation: Rows, tail: Rows) -> float:
        (h, h_p), (r, r_p), (t, t_p) = (np.split(row, 2) for row in (head, relation, tail))
        identity = np.eye(len(h))
        mapped_head = (np.outer(r_p, h_p) + identity) @ h
        mapped_tail = (np.outer(r_p, t_p) + identity) @ t
        return transe(norm)(mapped_head, r, mapped_tail)

    return plain


def perfect_transd_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    """Solves t + (t_p . t) r_p = h + (h_p . h) r_p + r for t."""
    (h, h_p), (r, r_p), (_, t_p) = (row.chunk(2, dim=-1) for row in (head, relation, tail))
    aim = h + (h_p * h).sum(-1, keepdim=True) * r_p + r
    amount = (t_p * aim).sum(-1, keepdim=True) / (1 + (t_p * r_p).sum(-1, keepdim=True))
    return torch.cat([aim - amount * r_p, t_p], dim=-1)


def perfect_rotate_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    turned = torch.complex(*head.chunk(2, dim=-1)) * torch.polar(torch.ones_like(relation), relation)
    return torch.cat([turned.real, turned.imag], dim=-1)


CASES = [
    Case("TransE L1", lambda dim: TransE(dim, norm=1, precision="float32"), transe(1), lambda h, r, t: h + r),
    Case("TransE L2", lambda dim: TransE(dim, norm=2, precision="float32"), transe(2), lambda h, r, t: h + r),
    Case("TransD L1", lambda dim: TransD(dim, norm=1), transd(1), perfect_transd_tail),
    Case("TransD L2", lambda dim: TransD(dim, norm=2), transd(2), perfect_transd_tail),
    Case("DistMult", lambda dim: DistMult(dim, precision="float32"), lambda h, r, t: sum(h * r * t)),
    Case(
        "ComplEx",
        lambda dim: ComplEx(dim, precision="float32"),
        lambda h, r, t: sum(complex_rows(h) * complex_rows(r) * complex_rows(t).conj()).real,
    ),
    Case(
        "RotatE",
        RotatE,
        lambda h, r, t: -sum(abs(complex_rows(h) * np.exp(1j * r) - complex_rows(t))),
        perfect_rotate_tail,
    ),
]

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_distance = pytest.mark.parametrize(
    "case", [case for case in CASES if case.perfect_tail], ids=lambda case: case.name
)
both_sides = pytest.mark.parametrize("side", ["head", "tail"])


def rows_of(
    function: ScoringFunction, queries: int, *candidates: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the entity that is kept, of the relation, and of candidates in the given shape."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(queries, function.entity_width), (queries, function.relation_width)]
    first, relation, other = (
        torch.randn(shape, generator=generator, dtype=dtype)
        for shape in [*shapes, (*candidates, function.entity_width)]
    )
    return first, relation, other


def score_side(function: ScoringFunction, side: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    score = function.score_heads if side == "head" else function.score_tails
    return lambda kept, relation, candidates: score(kept, relation, Candidates.of(candidates))


def one_by_one(function: ScoringFunction, side: str, kept: Tensor, relation: Tensor, candidates: Tensor) -> Tensor:
    """The score of every pair, its rows written out in full for `score`."""
    number, queries = candidates.shape[1], len(kept)
    candidates = candidates.repeat_interleave(queries // len(candidates), dim=0).flatten(0, 1)
    kept, relation = (row.repeat_interleave(number, dim=0) for row in (kept, relation))
    head, tail = (candidates, kept) if side == "head" else (kept, candidates)
    return function.score(head, relation, tail).view(queries, number)


def gradients(score: Tensor, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = torch.randn(score.shape, generator=torch.Generator().manual_seed(5), dtype=score.dtype)
    return torch.autograd.grad(score, rows, weight)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * (1 + expected.abs().max())


def test_no_scoring_function_is_missing():
    for module in pkgutil.walk_packages(embedding.scoring.__path__, "embedding.scoring."):
        importlib.import_module(module.name)
    found, new = set[type](), [ScoringFunction]
    while new:
        base = new.pop()
        new += [each for each in base.__subclasses__() if each.__module__.startswith("embedding.")]
        if not getattr(base, "__abstractmethods__", None):
            found.add(base)
    assert found == {type(case.make(4)) for case in CASES}


@every
def test_score_is_the_papers_formula(case: Case):
    function = case.make(6)
    head, relation, tail = rows_of(function, 5, 5)
    expected = [case.plain(*(row.numpy() for row in rows)) for rows in zip(head, relation, tail, strict=True)]
    assert_close(function.score(head, relation, tail), torch.tensor(expected))


@every
@both_sides
@pytest.mark.parametrize(("queries", "candidates"), [(6, 5), (52, 30)])
@pytest.mark.parametrize("chunks", [1, 2, None])
def test_scoring_many_is_scoring_one_by_one(case: Case, side: str, queries: int, candidates: int, chunks: int | None):
    function = case.make(4)
    rows = rows_of(function, queries, chunks or queries, candidates)
    found = score_side(function, side)(*rows)
    expected = one_by_one(function, side, *rows)
    assert_close(found, expected)
    for each in rows:
        each.requires_grad_()
    found, expected = score_side(function, side)(*rows), one_by_one(function, side, *rows)
    for mine, theirs in zip(gradients(found, rows), gradients(expected, rows), strict=True):
        assert_close(mine, theirs)


@every
@both_sides
@pytest.mark.parametrize("chunks", [0, 1])
def test_no_queries_have_no_scores(case: Case, side: str, chunks: int):
    function = case.make(4)
    rows = [row.requires_grad_() for row in rows_of(function, 0, chunks, 5)]
    score = score_side(function, side)(*rows)
    assert score.shape == (0, 5)
    score.sum().backward()  # a rank without work joins in all the same


@every
@both_sides
@pytest.mark.parametrize("chunks", [1, 2, 6])
def test_blocks_change_nothing(case: Case, side: str, chunks: int, monkeypatch: pytest.MonkeyPatch):
    function = case.make(4)
    rows = rows_of(function, 6, chunks, 5)
    for each in rows:
        each.requires_grad_()
    whole = score_side(function, side)(*rows)
    expected = gradients(whole, rows)
    for numbers in (1, 2 * 6 * function.entity_width):  # 1 candidate at a time; 2, and 1 in the last block
        monkeypatch.setattr(scoring, "_BLOCK_NUMBERS", numbers)
        with torch.no_grad():
            assert_close(score_side(function, side)(*rows), whole.detach())
        blocked = score_side(function, side)(*rows)
        assert_close(blocked, whole)
        for mine, theirs in zip(gradients(blocked, rows), expected, strict=True):
            assert_close(mine, theirs)


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest new tensor holds."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            # A view holds no memory of its own.
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return result


@every
@both_sides
def test_no_tensor_is_as_large_as_all_pairs_of_rows(case: Case, side: str, monkeypatch: pytest.MonkeyPatch):
    function = case.make(32)
    queries, candidates = 16, 128
    rows = rows_of(function, queries, 1, candidates)
    for each in rows:
        each.requires_grad_()
    monkeypatch.setattr(scoring, "_BLOCK_NUMBERS", 8192)
    with LargestTensor() as largest:
        score_side(function, side)(*rows).sum().backward()
    assert largest.numbers <= 8192 < queries * candidates * 32 / 4


@every
def test_gradients_are_those_of_finite_differences(case: Case):
    function = case.make(4)
    head, relation, tail = (row.requires_grad_() for row in rows_of(function, 3, 3))
    assert torch.autograd.gradcheck(function.score, (head, relation, tail))
    rows = tuple(row.requires_grad_() for row in rows_of(function, 4, 2, 3))
    assert torch.autograd.gradcheck(score_side(function, "tail"), rows)
    assert torch.autograd.gradcheck(score_side(function, "head"), rows)


@every_distance
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_perfect_triple_has_distance_0_and_no_other_is_nearer(case: Case, dtype: torch.dtype):
    function = case.make(8)
    assert case.perfect_tail is not None
    head, relation, tail = rows_of(function, 40, 40, dtype=dtype)
    perfect = case.perfect_tail(head, relation, tail)
    tolerance = (1 + perfect.abs().max()) * (1e-6 if dtype == torch.float64 else 1e-5)
    assert function.score(head, relation, perfect).abs().max() < tolerance
    place = torch.arange(40)
    for score in (
        score_side(function, "tail")(head, relation, torch.cat([perfect, tail])[None]),
        score_side(function, "head")(perfect, relation, torch.cat([head, tail])[None]),
    ):
        assert score.shape == (40, 80)
        assert score[place, place].abs().max() < tolerance
        assert (score <= 0).all()
        assert score.argmax(1).equal(place)


@every_distance
@both_sides
def test_the_gradient_is_a_number_at_distance_0(case: Case, side: str):
    # Row i against itself, through the path of few and of many rows.
    function = case.make(4)
    for size in (3, 40):
        kept, relation, _ = rows_of(function, size, 1, 1)
        rows = [row.requires_grad_() for row in (kept, torch.zeros_like(relation), kept[None].clone())]
        score = score_side(function, side)(*rows)
        assert score.diagonal().abs().max() < 1e-6
        score.sum().backward()
        assert all(row.grad is not None and row.grad.isfinite().all() for row in rows)


@every_distance
@both_sides
@pytest.mark.parametrize("candidates", [20, 64])
def test_small_distances_of_long_vectors_are_accurate_in_float32(case: Case, side: str, candidates: int):
    function = case.make(50)
    assert case.perfect_tail is not None
    head, relation, tail = rows_of(function, candidates, candidates)
    if isinstance(function, TransD):
        relation[:, 50:] /= 50  # or a score is the difference of numbers in the thousands
    nearly = case.perfect_tail(head, relation, tail)
    nearly += 1e-3 * torch.randn(nearly.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    kept, other = (nearly, head) if side == "head" else (head, nearly)
    kept, relation, other = kept.float(), relation.float(), other.float()
    expected = one_by_one(function, side, kept.double(), relation.double(), other.double()[None])
    found = score_side(function, side)(kept, relation, other[None])
    place = torch.arange(candidates)
    assert expected[place, place].min() > -2  # small beside the others
    assert (found - expected)[place, place].abs().max() < 2e-5 * max(
        1, *(row.norm(dim=1).max() for row in (kept, other))
    )


@every
@both_sides
@pytest.mark.parametrize("queries", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("dim", [6, 50])
def test_equal_rows_have_equal_scores_in_float32(case: Case, side: str, queries: int, dim: int):
    # Ranking counts ties exactly. A matrix product may round its last columns otherwise than the rest unless the
    # number of candidates is a multiple of 64.
    function = case.make(dim)
    kept, relation, distinct = rows_of(function, queries, 3, dtype=torch.float32)
    which = torch.arange(192) % 3
    scores = score_side(function, side)(kept, relation, distinct[which][None])
    for entity in range(3):
        equal = scores[:, which == entity]
        assert (equal == equal[:, :1]).all()


@every
def test_widths_are_those_of_the_parts(case: Case):
    function = case.make(8)
    head, relation, tail = rows_of(function, 2, 2)
    assert head.shape[1] == sum(function.entity_parts.values()) >= 8
    assert relation.shape[1] == sum(function.relation_parts.values())
    assert function.score(head, relation, tail).shape == (2,)


def test_initial_ranges():
    assert all(case.make(16).entity_init_range() == 6 / 4 for case in CASES)
    for case in CASES:
        assert case.make(16).relation_init_range() == (math.pi if case.name == "RotatE" else 6 / 4)


@pytest.mark.parametrize("function", [partial(TransE, precision="float32"), TransD])
@pytest.mark.parametrize("norm", [0, 3])
def test_a_norm_other_than_1_or_2_is_named(function: Callable[..., ScoringFunction], norm: int):
    with pytest.raises(InputError, match=f"^norm must be 1 or 2, got {norm}$"):
        function(4, norm=norm)


@pytest.mark.parametrize(("name", "make"), [("ComplEx", partial(ComplEx, precision="float32")), ("RotatE", RotatE)])
def test_an_odd_dimension_of_complex_numbers_is_named(name: str, make: Callable[..., ScoringFunction]):
    message = rf"^dim must be even for {name} \(real and imaginary parts\), got 5$"
    with pytest.raises(InputError, match=message):
        make(5)


PRODUCTS = {
    "DistMult": DistMult,
    "ComplEx": ComplEx,
    "TransE": partial(TransE, norm=2),
}


@both_sides
@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("compiled", [True, False])
def test_bfloat16_products_are_near_while_training_and_exact_otherwise(
    name: str, side: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
):
    if not compiled:
        monkeypatch.setattr(kernels.library, "load", lambda: None)
    exact, rounded = (PRODUCTS[name](32, precision=precision) for precision in ("float32", "bfloat16"))
    rows = [row.requires_grad_() for row in rows_of(exact, 64, 1, 48, dtype=torch.float32)]
    with torch.no_grad():
        assert score_side(rounded, side)(*rows).equal(score_side(exact, side)(*rows))
    expected, found = score_side(exact, side)(*rows), score_side(rounded, side)(*rows)
    assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert found.dtype == torch.float32
    for mine, theirs in zip(gradients(found, tuple(rows)), gradients(expected, tuple(rows)), strict=True):
        assert 0 < (mine - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_precision_that_is_none_is_named(name: str):
    with pytest.raises(InputError, match=r"^precision must be float32 or bfloat16, got 'half'$"):
        PRODUCTS[name](4, precision="half")


def test_l1_takes_no_product():
    message = "^precision must be float32 where norm is 1, which takes no product, got 'bfloat16'$"
    with pytest.raises(InputError, match=message):
        TransE(4, norm=1, precision="bfloat16")
