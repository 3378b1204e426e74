"""Queries against pools by Triton's kernels, against the plain formulas in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import kernels.contrast
from kernels.contrast import Contrast
from kernels.gpu.contrast import contrast
from kernels.losses import RowLoss
from kernels.pairs import Comparison
from kernels.precision import Precision, has_bfloat16, lowered
from tests.kernels.arrays import assert_close, both_types
from tests.kernels.test_contrast import MARGIN, TEMPERATURE, every_loss, everything, given, plain
from tests.kernels.test_pairs import plain_scores

# Chunks, queries, candidates and width.
SHAPES = [(2, 4, 3, 6), (1, 2, 1, 2), (0, 0, 3, 4)]


def run(kind: Comparison, loss: RowLoss, arguments: dict[str, Tensor | None]) -> Contrast:
    return contrast(kind, loss, MARGIN, TEMPERATURE, **arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", [Comparison.DOT, Comparison.L2])
@every_loss
@both_types
@pytest.mark.parametrize("masked", [False, True])
def test_scores_losses_and_gradients_are_the_formulas(
    kind: Comparison, loss: RowLoss, dtype: torch.dtype, masked: bool
):
    for shape in SHAPES:
        arguments = given(shape, dtype, masked=masked)
        made = run(kind, loss, arguments)
        for mine, theirs in zip(everything(made), plain(kind, loss, **arguments), strict=True):  # pyright: ignore[reportArgumentType]
            assert_close(mine.to(dtype), theirs)


@pytest.mark.parametrize("kind", [Comparison.L1, Comparison.MODULUS])
@every_loss
def test_distances_that_the_cpu_does_not_fuse(kind: Comparison, loss: RowLoss):
    arguments = given((2, 4, 3, 6), torch.float64, masked=False)
    made = run(kind, loss, arguments)
    query, rows, place, target, weight = (arguments[name] for name in ("query", "rows", "place", "target", "weight"))
    assert query is not None
    assert rows is not None
    assert place is not None
    assert target is not None
    assert weight is not None
    q, c = query.clone().requires_grad_(), rows[place].requires_grad_()
    own = torch.arange(place.numel()).view(place.shape)
    negative = plain_scores(kind, q, c.flatten(0, 1), own)
    positive = plain_scores(kind, q, rows, target[:, None])[:, 0]
    if loss == RowLoss.SOFTMAX:
        value = torch.cat([positive[:, None], negative], 1).logsumexp(1) - positive
    else:
        share = (TEMPERATURE * negative.detach()).softmax(1)
        value = softplus(-MARGIN - positive) + (share * softplus(MARGIN + negative)).sum(1)
    by_query, by_candidate = torch.autograd.grad((weight * value).sum(), (q, c))
    for mine, theirs in zip(everything(made), (positive, negative, value, by_query, by_candidate), strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize(("precision", "digits"), [(Precision.TF32, 11), (Precision.BFLOAT16, 8)])
def test_factors_of_dot_products_are_rounded_in_scores_and_in_gradients(precision: Precision, digits: int):
    arguments = given((2, 4, 3, 6), torch.float32, masked=False)
    query, rows, place = arguments["query"], arguments["rows"], arguments["place"]
    assert query is not None
    assert rows is not None
    assert place is not None
    options = Comparison.DOT, RowLoss.SOFTMAX, MARGIN, TEMPERATURE
    exact = contrast(*options, **arguments)  # pyright: ignore[reportArgumentType]
    made = contrast(*options, **arguments, precision=precision)  # pyright: ignore[reportArgumentType]
    factors = (lowered(each, precision).double() for each in (query.view(2, 4, 6), rows[place]))
    one, other = factors
    # A CPU that has bfloat16 products rounds what they give too.
    rounded_again = precision == Precision.BFLOAT16 and has_bfloat16()
    assert_close(made.negative, (one @ other.transpose(1, 2)).flatten(0, 1), 2.0**-8 if rounded_again else 1e-6)
    assert made.positive.equal(exact.positive)
    for mine, theirs in ((made.by_query, exact.by_query), (made.by_candidate, exact.by_candidate)):
        assert not mine.equal(theirs)
        assert_close(mine, theirs, 8 * 2.0**-digits)


@every_loss
def test_a_row_that_is_no_number_shows_in_the_losses_of_its_chunk_alone(loss: RowLoss):
    arguments = given((2, 5, 7, 6), torch.float64, masked=False)
    place, rows, target = arguments["place"], arguments["rows"], arguments["target"]
    assert place is not None
    assert rows is not None
    assert target is not None
    place[:], target[:] = 1, 2
    place[0, 3] = 0
    rows[0, 2] = torch.nan
    value = run(Comparison.L1, loss, arguments).loss
    assert value[:5].isnan().all()
    assert value[5:].isfinite().all()


def test_more_candidates_than_a_program_holds_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels.contrast, "usable_on_gpu", lambda *_: True)
    arguments = given((1, 4, 2049, 2), torch.float32, masked=False)
    with pytest.raises(ValueError, match="2049 candidates: a GPU takes at most 2048"):
        kernels.contrast.contrast(Comparison.DOT, RowLoss.SOFTMAX, MARGIN, TEMPERATURE, **arguments)  # pyright: ignore[reportArgumentType]
