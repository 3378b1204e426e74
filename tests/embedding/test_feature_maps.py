"""Maps of a convolution in blocks: formula, gradients, and sums that do not depend on where ranks cut the batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from embedding.moments import moments_of, moments_of_maps
from embedding.scoring.dense import blocks_of_rows, rows_together
from embedding.scoring.feature_maps import patches_of, project_maps
from embedding.scoring.tucker import _contract

HEIGHT, WIDTH, KERNEL, FILTERS, DIM = 4, 5, 2, 3, 6
PLACES = (HEIGHT - KERNEL + 1) * (WIDTH - KERNEL + 1)


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_values_are_those_of_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedding.scoring.feature_maps._BLOCK_NUMBERS", 5 * FILTERS * PLACES)  # three blocks
    image, weights = randn(12, HEIGHT, WIDTH, seed=1), randn(KERNEL**2 + 1, FILTERS, seed=2)
    scale, matrix, bias = randn(12, FILTERS, seed=3).relu(), randn(FILTERS * PLACES, DIM, seed=4), randn(DIM, seed=5)
    found = project_maps(patches_of(image, KERNEL), weights, scale, matrix, bias, None)
    filters = weights[:-1].T.view(FILTERS, 1, KERNEL, KERNEL)
    maps = conv2d(image[:, None], filters, weights[-1]).relu() * scale[:, :, None, None]
    torch.testing.assert_close(found, maps.flatten(1) @ matrix + bias)


@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_are_those_of_the_values(dropped: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedding.scoring.feature_maps._BLOCK_NUMBERS", 5 * FILTERS * PLACES)
    scale = randn(7, FILTERS, seed=3).relu() if dropped else None
    leaves = (
        randn(7, HEIGHT, WIDTH, seed=1),
        randn(KERNEL**2 + 1, FILTERS, seed=2),
        randn(FILTERS * PLACES, DIM, seed=4),
        randn(DIM, seed=5),
    )

    def value(image: Tensor, weights: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        return project_maps(patches_of(image, KERNEL), weights, scale, matrix, bias, None)

    assert torch.autograd.gradcheck(value, tuple(each.requires_grad_() for each in leaves))


def test_moments_are_those_of_the_maps():
    image = randn(9, HEIGHT, WIDTH, seed=1).requires_grad_()
    filters = randn(KERNEL**2, FILTERS, seed=2).requires_grad_()
    real = (torch.arange(9) % 4 > 0).double()
    patches = patches_of(image, KERNEL)
    found = moments_of_maps(patches, filters, real, 1)
    expected = moments_of(patches[:, :-1].mT @ filters, real, 1)
    assert (found.rows, found.values) == (expected.rows, expected.values) == (6, 6 * PLACES)
    for mine, theirs in ((found.mean, expected.mean), (found.variance, expected.variance)):
        torch.testing.assert_close(mine, theirs)
        weight = torch.linspace(-1, 1, FILTERS, dtype=torch.float64)
        gradients = (torch.autograd.grad(each, (image, filters), weight, retain_graph=True) for each in (mine, theirs))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)


def maps_gradient(rows: slice, chunk_size: int) -> list[Tensor]:
    patches = patches_of(randn(1204, HEIGHT, WIDTH, dtype=torch.float32, seed=1)[rows], KERNEL)
    leaves = randn(KERNEL**2 + 1, FILTERS, seed=2), randn(FILTERS * PLACES, DIM, seed=4)
    weights, matrix = (each.requires_grad_() for each in leaves)
    vector = project_maps(patches, weights, None, matrix, None, chunk_size)
    return list(torch.autograd.grad(vector, (weights, matrix), randn(1204, DIM, dtype=torch.float32, seed=3)[rows]))


def core_gradient(rows: slice, chunk_size: int) -> list[Tensor]:
    entity, relation, given = (randn(1204, DIM, dtype=torch.float32, seed=seed)[rows] for seed in range(3))
    core = randn(DIM, DIM, DIM, seed=4).requires_grad_()
    return list(torch.autograd.grad(_contract(entity, relation, core, chunk_size), core, given))


@pytest.mark.parametrize("gradient", [maps_gradient, core_gradient])
@pytest.mark.parametrize("chunk_size", [7, 43, 301, 1204])
def test_float32_sums_do_not_depend_on_where_ranks_cut(gradient: Callable[[slice, int], list[Tensor]], chunk_size: int):
    whole = gradient(slice(0, 1204), chunk_size)
    for ranks in (2, 3):
        chunks = 1204 // chunk_size
        ends = [chunks * rank // ranks * chunk_size for rank in range(ranks + 1)]
        shares = [gradient(slice(*ends[rank:][:2]), chunk_size) for rank in range(ranks)]
        for one, parts in zip(whole, zip(*shares, strict=True), strict=True):
            assert one.dtype == torch.float64
            assert (one - sum(parts)).abs().max() < 1e-12 * one.abs().max()


def test_blocks_lie_within_chunks():
    rows = torch.zeros(600, 2)
    for chunk_size, most in ((31, None), (32, 32), (256, 256), (300, 150), (600, 200)):
        assert rows_together(rows, chunk_size) == most
    assert rows_together(rows, None) is None
    assert rows_together(rows.double(), 256) is None
    assert blocks_of_rows(600, 150, 300) == [slice(start, start + 150) for start in (0, 150, 300, 450)]
    assert blocks_of_rows(10, 4, None) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert blocks_of_rows(10, 4, 6) == [slice(0, 4), slice(4, 6), slice(6, 10)]
    assert blocks_of_rows(0, 4, 6) == blocks_of_rows(0, 4, None) == []
