"""What every scoring function promises, whichever it is, beside the formula of each."""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import embedding.scoring
import kernels.library
from embedding.scoring import candidate_blocks, dense, tucker
from embedding.scoring.candidates import Candidates
from embedding.scoring.complex import ComplEx
from embedding.scoring.conve import ConvE
from embedding.scoring.distmult import DistMult
from embedding.scoring.quate import QuatE
from embedding.scoring.rescal import RESCAL
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.simple import SimplE
from embedding.scoring.transd import TransD
from embedding.scoring.transe import TransE
from embedding.scoring.transr import TransR
from graph.errors import InputError
from tests.configs import WITH_VECTORS
from tests.pairwise import pairwise
from tests.plain_scores import FORMULAS, SHIPPED
from tests.worlds import conve as conve_function
from tests.worlds import tucker as tucker_function

CONF = Path(__file__).parents[2] / "conf" / "discriminator"
YAMLS = WITH_VECTORS
# Options worth more than the yaml's own values.
VARIANTS = {"transe": [{"norm": 1}, {"norm": 2}], "transd": [{"norm": 1}, {"norm": 2}], "conve": [{"num_filters": 2}]}


@dataclass(frozen=True)
class Case:
    """A yaml's scoring function."""

    yaml: str
    options: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return " ".join([self.yaml, *(f"{key}={value}" for key, value in self.options)])

    def make(self, dim: int) -> ScoringFunction:
        """With dense parameters as at the start of a run, and the smallest dimension from `dim` on that it takes."""
        for larger in range(dim, dim + 100):
            config = OmegaConf.load(CONF / f"{self.yaml}.yaml")
            config.dim = larger
            config.scoring.update(dict(self.options))
            try:
                function = instantiate(config.scoring)(larger)
            except (InputError, InstantiationException):
                continue
            function.fill_dense("a test", 0)
            return function
        raise AssertionError(f"{self.name} takes no dimension of {dim} to {dim + 99}")


CASES = [Case(yaml, tuple(options.items())) for yaml in YAMLS for options in VARIANTS.get(yaml, [{}])]


def perfect_transd_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    """Solves t + (t_p . t) r_p = h + (h_p . h) r_p + r for t."""
    (h, h_p), (r, r_p), (_, t_p) = (row.chunk(2, dim=-1) for row in (head, relation, tail))
    aim = h + (h_p * h).sum(-1, keepdim=True) * r_p + r
    amount = (t_p * aim).sum(-1, keepdim=True) / (1 + (t_p * r_p).sum(-1, keepdim=True))
    return torch.cat([aim - amount * r_p, t_p], dim=-1)


def perfect_transh_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    """h + r, of a translation that lies in its hyperplane already."""
    return head + relation[..., : head.shape[-1]]


def perfect_transr_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    """Solves M t = M h + r for t."""
    size = head.shape[-1]
    return head + torch.linalg.solve(relation[..., size:].unflatten(-1, (size, size)), relation[..., :size])


def perfect_rotate_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    turned = torch.complex(*head.chunk(2, dim=-1)) * torch.polar(torch.ones_like(relation), relation)
    return torch.cat([turned.real, turned.imag], dim=-1)


def perfect_hake_tail(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    (h, h_phase), (r, r_phase) = head.chunk(2, dim=-1), relation.chunk(2, dim=-1)
    return torch.cat([h * r.abs(), h_phase + r_phase], dim=-1)


def into_the_hyperplane(relation: Tensor) -> Tensor:
    translation, normal = relation.chunk(2, dim=-1)
    along = (translation * normal).sum(-1, keepdim=True) / normal.square().sum(-1, keepdim=True)
    return torch.cat([translation - along * normal, normal], dim=-1)


def same_factors(relation: Tensor) -> Tensor:
    return relation.chunk(2, dim=-1)[0].repeat(1, 2)


def zeros_after_ones(relation: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(part) if not i else part * 0 for i, part in enumerate(relation.chunk(2, 1))], 1)


@dataclass(frozen=True)
class Distance:
    """How a triple of distance 0 is made."""

    perfect_tail: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The tail at distance 0 from (head, relation); the third argument is a tail to start from."""
    usable: Callable[[Tensor], Tensor] = lambda relation: relation
    """Changes relations so that there is such a tail."""
    identity: Callable[[Tensor], Tensor] = torch.zeros_like
    """Relations by which each entity is at distance 0 from itself."""


DISTANCES = {
    "transe": Distance(lambda h, r, t: h + r),
    "transd": Distance(perfect_transd_tail),
    "transh": Distance(perfect_transh_tail, into_the_hyperplane),
    "transr": Distance(perfect_transr_tail),
    "rotate": Distance(perfect_rotate_tail),
    "pairre": Distance(lambda h, r, t: h, same_factors),
    "hake": Distance(perfect_hake_tail, identity=zeros_after_ones),
}

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_distance = pytest.mark.parametrize(
    "case", [case for case in CASES if case.yaml in DISTANCES], ids=lambda case: case.name
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
        new += [each for each in base.__subclasses__() if each.__module__.startswith("embedding.scoring.")]
        if not getattr(base, "__abstractmethods__", None):
            found.add(base)
    # A yaml is what brings a function into these tests, and into a user's hands.
    assert found == {type(case.make(4)) for case in CASES}


def test_every_shipped_function_has_a_plain_formula():
    assert set(YAMLS) >= set(FORMULAS) == SHIPPED


@pytest.mark.parametrize("case", [case for case in CASES if case.yaml in FORMULAS], ids=lambda case: case.name)
def test_score_is_the_papers_formula(case: Case):
    function = case.make(6)
    head, relation, tail = rows_of(function, 5, 5)
    model = function.export_options | {name: value.numpy() for name, value in function.state_dict().items()}

    def named(row: Tensor, parts: dict[str, int]) -> dict[str, Any]:
        return dict(zip(parts, (part.numpy() for part in row.split(list(parts.values()))), strict=True))

    kinds = function.entity_parts, function.relation_parts, function.entity_parts
    expected = [
        FORMULAS[case.yaml](*(named(row, parts) for row, parts in zip(rows, kinds, strict=True)), model)
        for rows in zip(head, relation, tail, strict=True)
    ]
    assert_close(function.score(head, relation, tail), torch.tensor(expected, dtype=torch.float64))


@every
def test_a_relation_query_gives_the_score_of_every_relation(case: Case):
    function = case.make(4)
    head, relation, tail = rows_of(function, 5, 5)
    query = function.relation_query(head, tail)
    assert (query is not None) == (case.yaml in ("complex", "distmult", "simple", "rescal"))
    if query is not None:
        assert_close((query * relation).sum(1), function.score(head, relation, tail))


@pairwise(case=CASES, side=["head", "tail"], size=[(6, 5), (52, 30)], chunks=[1, 2, None])
def test_scoring_many_is_scoring_one_by_one(case: Case, side: str, size: tuple[int, int], chunks: int | None):
    function, (queries, candidates) = case.make(4), size
    rows = rows_of(function, queries, chunks or queries, candidates)
    found = score_side(function, side)(*rows)
    expected = one_by_one(function, side, *rows)
    assert_close(found, expected)
    for each in rows:
        each.requires_grad_()
    found, expected = score_side(function, side)(*rows), one_by_one(function, side, *rows)
    learned = (*rows, *function.parameters())
    for mine, theirs in zip(gradients(found, learned), gradients(expected, learned), strict=True):
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
    assert all(parameter.grad is not None for parameter in function.parameters())  # DDP waits for each


@pairwise(case=CASES, side=["head", "tail"], chunks=[1, 2, 6])
def test_blocks_change_nothing(case: Case, side: str, chunks: int, monkeypatch: pytest.MonkeyPatch):
    function = case.make(4)
    rows = rows_of(function, 6, chunks, 5)
    for each in rows:
        each.requires_grad_()
    learned = (*rows, *function.parameters())
    whole = score_side(function, side)(*rows)
    expected = gradients(whole, learned)
    for numbers in (1, 2 * 6 * function.entity_width):  # 1 candidate at a time; 2, and 1 in the last block
        monkeypatch.setattr(candidate_blocks, "_BLOCK_NUMBERS", numbers)
        with torch.no_grad():
            assert_close(score_side(function, side)(*rows), whole.detach())
        blocked = score_side(function, side)(*rows)
        assert_close(blocked, whole)
        for mine, theirs in zip(gradients(blocked, learned), expected, strict=True):
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
    queries, candidates = 16, 512
    rows = rows_of(function, queries, 1, candidates)
    for each in rows:
        each.requires_grad_()
    monkeypatch.setattr(candidate_blocks, "_BLOCK_NUMBERS", 8192)
    with LargestTensor() as largest:
        score_side(function, side)(*rows).sum().backward()
    # Rows, parameters and their gradients are as large as they are; a block has one candidate a query at least.
    given = max(each.numel() for each in (*rows, *function.parameters()))
    allowed = max(8192, given, queries * function.pair_numbers)
    assert largest.numbers <= allowed <= queries * candidates * function.entity_width / 4


@every
def test_gradients_are_those_of_finite_differences(case: Case):
    function = case.make(4)
    head, relation, tail = (row.requires_grad_() for row in rows_of(function, 3, 3))
    # Of thousands of parameters, projections are checked.
    numbers = sum(each.numel() for each in function.parameters())
    check = partial(torch.autograd.gradcheck, fast_mode=numbers > 500)
    dense = tuple(function.parameters())

    def also_of_dense(score: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`gradcheck` changes what it is given in place, so the function sees dense parameters change."""
        return lambda *values: score(*values[:3])

    assert check(also_of_dense(function.score), (head, relation, tail, *dense))
    rows = tuple(row.requires_grad_() for row in rows_of(function, 4, 2, 3))
    assert check(also_of_dense(score_side(function, "tail")), (*rows, *dense))
    assert check(also_of_dense(score_side(function, "head")), (*rows, *dense))


@every_distance
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_perfect_triple_has_distance_0_and_no_other_is_nearer(case: Case, dtype: torch.dtype):
    function = case.make(8)
    distance = DISTANCES[case.yaml]
    head, relation, tail = rows_of(function, 40, 40, dtype=dtype)
    relation = distance.usable(relation)
    perfect = distance.perfect_tail(head, relation, tail)
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
        identity = DISTANCES[case.yaml].identity(relation)
        rows = [row.requires_grad_() for row in (kept, identity, kept[None].clone())]
        score = score_side(function, side)(*rows)
        assert score.diagonal().abs().max() < 1e-6
        score.sum().backward()
        assert all(row.grad is not None and row.grad.isfinite().all() for row in rows)


@every_distance
@both_sides
@pytest.mark.parametrize("candidates", [20, 64])
def test_small_distances_of_long_vectors_are_accurate_in_float32(case: Case, side: str, candidates: int):
    function = case.make(50)
    distance = DISTANCES[case.yaml]
    head, relation, tail = rows_of(function, candidates, candidates)
    relation = distance.usable(relation)
    if isinstance(function, TransD):
        relation[:, 50:] /= 50  # or a score is the difference of numbers in the thousands
    nearly = distance.perfect_tail(head, relation, tail)
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


@pairwise(case=CASES, side=["head", "tail"], queries=[1, 2, 3, 5, 64], dim=[6, 20, 50])
def test_equal_rows_have_equal_scores_in_float32(case: Case, side: str, queries: int, dim: int):
    # Ranking counts ties exactly. A matrix product may round its last columns otherwise than the rest unless the
    # number of candidates is a multiple of 64.
    if dim == 6 and "AuthenticAMD" in Path("/proc/cpuinfo").read_text():
        pytest.skip("below 16 numbers a row, MKL on AMD rounds odd columns otherwise than even ones")
    function = case.make(dim)
    kept, relation, distinct = rows_of(function, queries, 3, dtype=torch.float32)
    which = torch.arange(192) % 3
    scores = score_side(function, side)(kept, relation, distinct[which][None])
    for entity in range(3):
        equal = scores[:, which == entity]
        assert (equal == equal[:, :1]).all()


@every
@both_sides
@pytest.mark.parametrize("size", [13, 40])
def test_equal_rows_have_equal_scores_in_whatever_block(
    case: Case, side: str, size: int, monkeypatch: pytest.MonkeyPatch
):
    # 13 and 40 do not divide 192: what is left over would be a block of its own, whose product rounds otherwise.
    function = case.make(20)
    kept, relation, distinct = rows_of(function, 7, 3, dtype=torch.float32)
    monkeypatch.setattr(candidate_blocks, "_BLOCK_NUMBERS", 7 * size * function.pair_numbers)
    which = torch.arange(192) % 3
    with torch.no_grad():
        scores = score_side(function, side)(kept, relation, distinct[which][None])
    assert all(each.unique(dim=1).shape[1] == 1 for each in (scores[:, which == entity] for entity in range(3)))


@every
def test_widths_are_those_of_the_parts(case: Case):
    function = case.make(8)
    head, relation, tail = rows_of(function, 2, 2)
    assert head.shape[1] == sum(function.entity_parts.values()) >= 8
    assert relation.shape[1] == sum(function.relation_parts.values())
    assert function.score(head, relation, tail).shape == (2,)


PHASES = {("rotate", "relation"), ("hake", "entity_phase"), ("hake", "relation_phase")}
MATRICES = {("rescal", "relation"), ("transr", "relation_matrix")}


def test_initial_ranges():
    # All phases, a matrix that keeps lengths, the input of a network, or Bordes et al.: 6 / sqrt(dim).
    for case in CASES:
        function = case.make(16)
        for part in (*function.entity_parts, *function.relation_parts):
            expected = (1 if case.yaml == "conve" else 6) / function.dim**0.5
            if (case.yaml, part) in PHASES:
                expected = math.pi
            elif (case.yaml, part) in MATRICES or (case.yaml, part) == ("hake", "relation"):
                expected = 3**0.5 / (1 if case.yaml == "hake" else function.dim**0.5)
            assert function.part_init_range(part) == pytest.approx(expected), (case.name, part)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: QuatE(6, "float32"),
            r"^dim must be a multiple of 4 for QuatE \(a real and three imaginary parts\), got 6$",
        ),
        (lambda: TransR(4, relation_dim=0), "^relation_dim must be at least 1, got 0$"),
        (lambda: tucker_function(4, relation_dim=-1), "^relation_dim must be at least 1, got -1$"),
        (lambda: conve(height=0), "^height must be at least 1, got 0$"),
        (lambda: conve(num_filters=0), "^num_filters must be at least 1, got 0$"),
        (lambda: conve(height=5), "^height must divide dim, which is 12, got 5$"),
        (
            lambda: conve(kernel=5),
            "^kernel must fit into the image of head and relation, 6 x 4, got 5$",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_named(make: Callable[[], ScoringFunction], message: str):
    with pytest.raises(InputError, match=message):
        make()


def conve(*, height: int = 3, kernel: int = 3, num_filters: int = 2) -> ScoringFunction:
    return conve_function(12, height=height, kernel=kernel, num_filters=num_filters)


def test_a_parameter_made_in_another_way_is_refused():
    function = conve()
    function.other = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(TypeError, match=r"^ConvE\.other must be made by dense_parameter$"):
        function.fill_dense("a test", 0)


def test_dense_parameters_start_from_seed_owner_and_name_alone():
    first, second = conve(), conve()
    for function, owner, seed in ((first, "discriminator", 3), (second, "discriminator", 3)):
        function.fill_dense(owner, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert isinstance(first, ConvE)
    limit = (6 / 9) ** 0.5
    assert 0.9 * limit < first.filters.abs().max() <= limit
    assert not first.filters_bias.any()
    for owner, seed in (("generator", 3), ("discriminator", 4)):
        second.fill_dense(owner, seed)
        assert isinstance(second, ConvE)
        assert not (first.matrix == second.matrix).any()


def test_tuckers_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    function = tucker_function(4)
    function.fill_dense("a test", 0)
    rows = [row.requires_grad_() for row in rows_of(function, 7, 1, 5)]
    learned = (*rows, function.core)
    whole = score_side(function, "tail")(*rows)
    expected = gradients(whole, learned)
    monkeypatch.setattr(tucker, "_BLOCK_NUMBERS", 24)  # two queries at a time, and one
    monkeypatch.setattr(dense, "_BLOCK_NUMBERS", 12)
    blocked = score_side(function, "tail")(*rows)
    assert_close(blocked, whole)
    for mine, theirs in zip(gradients(blocked, learned), expected, strict=True):
        assert_close(mine, theirs)


@every
def test_gradients_of_dense_parameters_are_summed_in_float64(case: Case):
    # In float32 the sum over one half of the queries and over the other would not add up to the sum over all.
    function = case.make(8)
    rows = rows_of(function, 64, 64, 5, dtype=torch.float32)
    dense_parameters = tuple(function.parameters())

    def gradient(part: slice) -> tuple[Tensor, ...]:
        score = score_side(function, "tail")(*(row[part] for row in rows))
        return torch.autograd.grad(score.sum(), dense_parameters) if dense_parameters else ()

    for whole, *halves in zip(*map(gradient, (slice(64), slice(32), slice(32, 64))), strict=True):
        assert whole.dtype == torch.float64
        assert_close(halves[0] + halves[1], whole)


def tucker_of(dim: int, precision: str) -> ScoringFunction:
    function = tucker_function(dim, relation_dim=dim, precision=precision)
    function.fill_dense("a test", 0)
    return function


def conve_of(dim: int, precision: str) -> ScoringFunction:
    function = conve_function(dim, height=4, precision=precision)
    function.fill_dense("a test", 0)
    return function


PRODUCTS = {
    "DistMult": DistMult,
    "ComplEx": ComplEx,
    "TransE": partial(TransE, norm=2),
    "SimplE": SimplE,
    "RESCAL": RESCAL,
    "QuatE": QuatE,
    "TuckER": tucker_of,
    "ConvE": conve_of,
}


# Heads are no product in ConvE.
@pytest.mark.parametrize(("name", "side"), sorted({*product(PRODUCTS, ("head", "tail"))} - {("ConvE", "head")}))
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("precision", "digits"), [("tf32", 11), ("bfloat16", 8)])
def test_rounded_products_are_near_while_training_and_exact_otherwise(
    name: str, side: str, compiled: bool, precision: str, digits: int, monkeypatch: pytest.MonkeyPatch
):
    if not compiled:
        monkeypatch.setattr(kernels.library, "load", lambda: None)
    most = 5 * 2.0**-digits
    exact, rounded = (PRODUCTS[name](32, precision=each) for each in ("float32", precision))
    rows = [row.requires_grad_() for row in rows_of(exact, 64, 1, 48, dtype=torch.float32)]
    with torch.no_grad():
        assert score_side(rounded, side)(*rows).equal(score_side(exact, side)(*rows))
    expected, found = score_side(exact, side)(*rows), score_side(rounded, side)(*rows)
    assert 0 < (found - expected).abs().max() < most * expected.abs().max()
    assert found.dtype == torch.float32
    for mine, theirs in zip(gradients(found, tuple(rows)), gradients(expected, tuple(rows)), strict=True):
        assert 0 < (mine - theirs).norm() < most * theirs.norm()


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_precision_that_is_none_is_named(name: str):
    with pytest.raises(InputError, match=r"^precision must be one of float32, tf32, bfloat16, got 'half'$"):
        PRODUCTS[name](4, precision="half")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_l1_takes_no_product(precision: str):
    message = f"^precision must be float32 where norm is 1, which takes no product, got '{precision}'$"
    with pytest.raises(InputError, match=message):
        TransE(4, norm=1, precision=precision)
