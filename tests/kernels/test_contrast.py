"""Queries against pools in one walk, against the plain formulas in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from kernels.contrast import Contrast, can_contrast, contrast
from kernels.losses import RowLoss
from kernels.pairs import Comparison
from kernels.precision import Precision
from kernels.products import products
from tests.kernels.arrays import assert_close, both_types, integers, on_threads, randn

pytestmark = pytest.mark.skipif(products() is None, reason="torch was built with another library of matrix products")

MARGIN, TEMPERATURE, ROWS = 1.0, 0.7, 60
# Chunks, queries, candidates and width: less than a vector; several pieces of a chunk; several blocks of a piece.
SHAPES = [(2, 5, 7, 6), (3, 300, 33, 20), (1, 270, 1100, 5), (2, 4, 1, 1), (0, 0, 3, 4)]
every_kind = pytest.mark.parametrize("kind", [Comparison.DOT, Comparison.L2])
every_loss = pytest.mark.parametrize("loss", list(RowLoss))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def given(shape: tuple[int, int, int, int], dtype: torch.dtype, *, masked: bool) -> dict[str, Tensor | None]:
    chunks, queries, candidates, width = shape
    size = chunks * queries if chunks else 0
    rows = 0.5 * randn(ROWS, width, dtype=dtype)
    query = 0.5 * randn(size, width, dtype=dtype, seed=1)
    place, target = integers(ROWS, chunks, candidates, seed=2), integers(ROWS, size, seed=3)
    if size:
        query[0] = rows[place[0, 0]]  # at distance 0 from a candidate
        query[1] = rows[target[1]] + 1e-3
    known = randn(size, candidates, seed=4) > 0
    known[::4], known[1::4] = False, True
    weight = randn(size, dtype=torch.float64, seed=5).abs()
    return {
        "query": query,
        "rows": rows,
        "place": place,
        "target": target,
        "known": known if masked else None,
        "weight": weight,
    }


def plain(
    kind: Comparison,
    loss: RowLoss,
    query: Tensor,
    rows: Tensor,
    place: Tensor,
    target: Tensor,
    known: Tensor | None,
    weight: Tensor,
) -> list[Tensor]:
    """Scores of positives and negatives, losses, gradients by queries and candidates; none of the positive's row."""
    q, c = query.double().requires_grad_(), rows[place].double().requires_grad_()
    by_chunk = q.view(len(place), -1, q.shape[1]) if len(place) else q.view(0, 0, q.shape[1])
    apart = q - rows[target].double()
    if kind == Comparison.DOT:
        positive, negative = (q * rows[target].double()).sum(1), by_chunk @ c.transpose(1, 2)
    else:
        positive = -torch.linalg.vector_norm(apart, dim=1)
        negative = -torch.linalg.vector_norm(by_chunk[:, :, None] - c[:, None], dim=3)
    negative = negative.flatten(0, 1)
    left_out = torch.zeros_like(negative, dtype=torch.bool) if known is None else known
    if loss == RowLoss.SOFTMAX:
        all_scores = torch.cat([positive[:, None], negative.masked_fill(left_out, -torch.inf)], dim=1)
        value = all_scores.logsumexp(1) - positive
    else:
        logits = (TEMPERATURE * negative.detach()).masked_fill(left_out, -torch.inf)
        share = logits.softmax(1).masked_fill(left_out, 0.0)
        value = softplus(-MARGIN - positive) + (share * softplus(MARGIN + negative)).sum(1)
    by_query, by_candidate = torch.autograd.grad((weight * value).sum(), (q, c))
    return [positive, negative, value, by_query, by_candidate]


def run(kind: Comparison, loss: RowLoss, arguments: dict[str, Tensor | None]) -> Contrast:
    return contrast(kind, loss, MARGIN, TEMPERATURE, **arguments)  # pyright: ignore[reportArgumentType]


def everything(made: Contrast) -> list[Tensor]:
    return [made.positive, made.negative, made.loss, made.by_query, made.by_candidate.double().sum(1)]


@every_kind
@every_loss
@every_shape
@both_types
@pytest.mark.parametrize("masked", [False, True])
def test_scores_losses_and_gradients_are_the_formulas(
    kind: Comparison, loss: RowLoss, shape: tuple[int, int, int, int], dtype: torch.dtype, masked: bool
):
    arguments = given(shape, dtype, masked=masked)
    made = run(kind, loss, arguments)
    for mine, theirs in zip(everything(made), plain(kind, loss, **arguments), strict=True):  # pyright: ignore[reportArgumentType]
        assert_close(mine.to(dtype), theirs)


@every_kind
@every_loss
@both_types
def test_the_number_of_threads_changes_nothing(kind: Comparison, loss: RowLoss, dtype: torch.dtype):
    arguments = given((3, 300, 33, 20), dtype, masked=True)
    one, two = (everything(on_threads(number, run, kind, loss, arguments)) for number in (1, 2))
    for mine, theirs in zip(one, two, strict=True):
        assert mine.equal(theirs)


@every_kind
@every_loss
def test_a_row_that_is_no_number_shows_in_the_losses_of_its_chunk_alone(kind: Comparison, loss: RowLoss):
    arguments = given((2, 5, 7, 6), torch.float64, masked=False)
    place, rows, target = arguments["place"], arguments["rows"], arguments["target"]
    assert place is not None
    assert rows is not None
    assert target is not None
    place[:], target[:] = 1, 2
    place[0, 3] = 0
    rows[0, 2] = torch.nan
    value = run(kind, loss, arguments).loss
    assert value[:5].isnan().all()
    assert value[5:].isfinite().all()


def test_other_comparisons_have_no_walk():
    rows = randn(3, 4)
    assert can_contrast(Comparison.DOT, rows)
    assert not can_contrast(Comparison.L1, rows)
    assert not can_contrast(Comparison.MODULUS, rows)
    assert not can_contrast(Comparison.DOT, rows.bfloat16())


@pytest.mark.usefixtures("compiled")
def test_rounded_factors_are_refused_on_a_cpu():
    arguments = given((2, 4, 3, 6), torch.float32, masked=False)
    with pytest.raises(ValueError, match="no kernel of dot rounds factors to tf32 where these rows are"):
        contrast(Comparison.DOT, RowLoss.SOFTMAX, MARGIN, TEMPERATURE, **arguments, precision=Precision.TF32)  # pyright: ignore[reportArgumentType]
