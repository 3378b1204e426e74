"""The contract of every scoring function, and each against a plain formula of its paper."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import embedding.scoring
from embedding.scoring import scoring as scoring_module
from embedding.scoring.complex import ComplEx
from embedding.scoring.distmult import DistMult
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transd import TransD
from embedding.scoring.transe import TransE
from graph.errors import InputError

DIM = 6
FUNCTIONS: dict[str, Callable[[], ScoringFunction]] = {
    "transe_l1": lambda: TransE(DIM, norm=1),
    "transe_l2": lambda: TransE(DIM, norm=2),
    "transd_l1": lambda: TransD(DIM, norm=1),
    "transd_l2": lambda: TransD(DIM, norm=2),
    "distmult": lambda: DistMult(DIM),
    "complex": lambda: ComplEx(DIM),
    "rotate": lambda: RotatE(DIM),
}


def test_no_scoring_function_is_left_out() -> None:
    found = set()
    for module in pkgutil.iter_modules(embedding.scoring.__path__, "embedding.scoring."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, ScoringFunction) and not inspect.isabstract(kind):
                found.add(kind)
    assert found == {type(make()) for make in FUNCTIONS.values()}


@pytest.fixture(params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> ScoringFunction:
    return FUNCTIONS[request.param]()


def rows(function: ScoringFunction, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, function.entity_width, generator=generator, dtype=dtype)


def relations(function: ScoringFunction, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, function.relation_width, generator=torch.Generator().manual_seed(9), dtype=dtype)


def numpy_score(function: ScoringFunction, head: np.ndarray, relation: np.ndarray, tail: np.ndarray) -> float:
    """Straight from the papers."""
    half = DIM // 2
    if isinstance(function, TransE):
        return -np.linalg.norm(head + relation - tail, function.norm)
    if isinstance(function, TransD):
        (h, h_p), (r, r_p), (t, t_p) = (np.split(row, 2) for row in (head, relation, tail))
        mapping_h, mapping_t = (np.outer(r_p, e_p) + np.eye(DIM) for e_p in (h_p, t_p))
        return -np.linalg.norm(mapping_h @ h + r - mapping_t @ t, function.norm)
    if isinstance(function, DistMult):
        return float(head @ np.diag(relation) @ tail)
    h, t = head[:half] + 1j * head[half:], tail[:half] + 1j * tail[half:]
    if isinstance(function, ComplEx):
        return float(np.real(np.sum(h * (relation[:half] + 1j * relation[half:]) * np.conj(t))))
    assert isinstance(function, RotatE)
    return -float(np.sum(np.abs(h * np.exp(1j * relation) - t)))


def test_score_is_the_papers(function: ScoringFunction) -> None:
    head, relation, tail = rows(function, 5), relations(function, 5), rows(function, 5, seed=1)
    scores = function.score(head, relation, tail)
    for row, score in enumerate(scores.tolist()):
        plain = numpy_score(function, head[row].numpy(), relation[row].numpy(), tail[row].numpy())
        assert score == pytest.approx(plain, rel=1e-10)


@pytest.mark.parametrize("chunks", [1, 2, 6])
@pytest.mark.parametrize("block", [1 << 22, 1])
def test_scores_of_candidates_equal_scores_one_by_one(
    function: ScoringFunction, chunks: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_module, "_BLOCK_NUMBERS", block)
    anchor, relation, candidates = rows(function, 6), relations(function, 6), rows(function, chunks, 5, seed=2)
    tails, heads = (
        function.score_tails(anchor, relation, candidates),
        function.score_heads(anchor, relation, candidates),
    )
    for row in range(6):
        for column in range(5):
            candidate = candidates[row * chunks // 6, column]
            tail = function.score(anchor[row], relation[row], candidate)
            head = function.score(candidate, relation[row], anchor[row])
            torch.testing.assert_close(tails[row, column], tail, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(heads[row, column], head, rtol=1e-9, atol=1e-9)


def test_blocks_have_the_gradient_of_the_whole(function: ScoringFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> tuple[Tensor, ...]:
        leaves = [rows(function, 4), relations(function, 4), rows(function, 2, 7, seed=2)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        (function.score_tails(*leaves).square().sum() + function.score_heads(*leaves).sum()).backward()
        return tuple(leaf.grad for leaf in leaves if leaf.grad is not None)

    whole = gradients()
    monkeypatch.setattr(scoring_module, "_BLOCK_NUMBERS", 1)
    for one, other in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_match_finite_differences(function: ScoringFunction) -> None:
    leaves = [rows(function, 4), relations(function, 4), rows(function, 2, 3, seed=2)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(function.score_tails, tuple(leaves))
    assert torch.autograd.gradcheck(function.score_heads, tuple(leaves))
    positive = (leaves[0], leaves[1], rows(function, 4, seed=3).requires_grad_())
    assert torch.autograd.gradcheck(function.score, positive)


def test_a_rank_without_chunks_scores_nothing(function: ScoringFunction) -> None:
    nothing = function.score_tails(rows(function, 0), relations(function, 0), rows(function, 0, 3))
    assert nothing.shape == (0, 3)


def test_equal_rows_have_equal_scores_wherever_they_stand(function: ScoringFunction) -> None:
    """Ranking counts ties by equality: the same vector must not score differently in another column."""
    candidates = rows(function, 1, 523, dtype=torch.float32)
    candidates[0, [1, 77, 300, 521, 522]] = candidates[0, 5].clone()
    anchor, relation = rows(function, 33, dtype=torch.float32), relations(function, 33, dtype=torch.float32)
    for score in (function.score_tails, function.score_heads):
        scores = score(anchor, relation, candidates)
        for column in (1, 77, 300, 521, 522):
            assert torch.equal(scores[:, column], scores[:, 5])


@pytest.mark.parametrize("name", ["transe_l1", "transe_l2", "transd_l1", "transd_l2", "rotate"])
def test_a_distance_is_0_at_best(name: str) -> None:
    function = FUNCTIONS[name]()
    head, relation = rows(function, 3), torch.zeros(3, function.relation_width, dtype=torch.float64)
    assert function.score(head, relation, head).abs().max() < 1e-12
    assert (function.score(head, relation, rows(function, 3, seed=4)) < -0.1).all()
    # The gradient stays a number where the distance is 0.
    leaf = head.clone().requires_grad_()
    function.score(leaf, relation, leaf.detach()).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", ["transe_l2", "transd_l2"])
def test_l2_by_matrix_products_stays_accurate_for_near_rows(name: str) -> None:
    function = FUNCTIONS[name]()
    anchor = rows(function, 40, dtype=torch.float32)
    near = anchor[None] + 0.05 * rows(function, 1, 40, seed=5, dtype=torch.float32)
    relation = torch.zeros(40, function.relation_width)
    plain = function.score(anchor[:, None], relation[:, None], near[0][None])
    torch.testing.assert_close(function.score_tails(anchor, relation, near), plain, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", [ComplEx, RotatE])
def test_complex_numbers_need_an_even_dimension(kind: type) -> None:
    with pytest.raises(InputError, match=rf"dim must be even for {kind.__name__} .* got 5"):
        kind(5)


@pytest.mark.parametrize("kind", [TransE, TransD])
def test_norms_are_1_or_2(kind: type) -> None:
    with pytest.raises(InputError, match="norm must be 1 or 2, got 3"):
        kind(4, norm=3)
