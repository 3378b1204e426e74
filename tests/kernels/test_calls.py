"""What a kernel is called with is checked against its own signature, and sizes against each other."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from kernels.contrast import can_contrast, contrast
from kernels.draws import draw, exact_policy_gradient, sampled_policy_gradient
from kernels.dropped import dropped_outer_sums, dropped_products
from kernels.euclidean import euclidean_gradients, euclidean_scores
from kernels.known import mask_known
from kernels.library import call
from kernels.losses import RowLoss, row_loss, row_loss_gradient
from kernels.pairs import Comparison, pair_scores, query_gradient
from kernels.path_states import grow, grow_gradient, state_scores, state_scores_gradient
from kernels.paths import Nodes, OutEdges, choose, nodes_of, reach, send, send_gradient
from kernels.precision import Precision
from kernels.queries import Combination, entity_gradient, make_queries, relation_gradient
from kernels.ranks import LeftOut, RankCounts, count_ranks
from kernels.row_gradient import RowGradient
from kernels.row_sources import GatheredGradient, PairGradient
from kernels.row_sums import sum_rows
from kernels.rows import distinct_rows, group_rows
from kernels.score_sums import log_sum_exp_slope, sum_softplus_slope
from kernels.updates import Ball, adagrad, adam, rowwise_adagrad
from tests.kernels.arrays import integers, randn

PLACE, ORDER = torch.tensor([2, 0, 2]), torch.empty(3, dtype=torch.int32)
ROW, BEGIN = torch.empty(3, dtype=torch.int64), torch.empty(4, dtype=torch.int64)
ROWS = randn(5, 4)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """As outside of tests, where nothing checks the shapes of annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def group(*changed: tuple[int, Any]) -> tuple[Any, ...]:
    """The arguments of group_rows, some of them others."""
    arguments: list[Any] = [PLACE, 3, 4, ORDER, ROW, BEGIN]
    for place, value in changed:
        arguments[place] = value
    return tuple(arguments)


def test_a_kernel_takes_what_its_signature_says():
    assert call("group_rows", *group()) == 2
    assert (ROW[:2].tolist(), ORDER.tolist(), BEGIN[:3].tolist()) == ([0, 2], [1, 0, 2], [0, 1, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (group()[:-1], "group_rows takes 6 arguments, got 5"),
        (
            group((0, PLACE.int())),
            "group_rows: argument 1 must be a contiguous int64 tensor on the CPU, got a int32 tensor on cpu",
        ),
        (
            group((3, ORDER.long())),
            "group_rows: argument 4 must be a contiguous int32 tensor on the CPU, got a int64 tensor on cpu",
        ),
        (
            group((0, torch.zeros(6, dtype=torch.int64)[::2])),
            "group_rows: argument 1 must be a contiguous int64 tensor on the CPU, "
            "got a non-contiguous int64 tensor on cpu",
        ),
        (
            group((4, ROW.to("meta"))),
            "group_rows: argument 5 must be a contiguous int64 tensor on the CPU, got a int64 tensor on meta",
        ),
        (group((5, None)), "group_rows: argument 6 must be a contiguous int64 tensor on the CPU, got None"),
        (group((5, 7)), "group_rows: argument 6 must be a contiguous int64 tensor on the CPU, got 7"),
        (group((2, 4.0)), "group_rows: argument 3 must be an int64 number, got 4.0"),
        (group((1, 2**63)), f"group_rows: argument 2 must be an int64 number, got {2**63}"),
        (group((1, None)), "group_rows: argument 2 must be an int64 number, got None"),
        (group((1, PLACE)), "group_rows: argument 2 must be an int64 number, got a int64 tensor on cpu"),
    ],
)
def test_other_arguments_are_refused(arguments: tuple[Any, ...], message: str):
    with pytest.raises(TypeError) as error:
        call("group_rows", *arguments)
    assert str(error.value) == message


def test_numbers_of_other_types_are_refused():
    uniform, out = randn(1, 2), torch.empty(1, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"^random_uniform: argument 6 must be an int32 number, got 2147483648$"):
        call("random_uniform", 1, PLACE[:1], out, 1, 3, 2**31)
    with pytest.raises(TypeError, match=r"argument 3 must be a contiguous float64 tensor .*, got a float32 tensor"):
        call("random_uniform", 1, PLACE[:1], out.float(), 1, 3, 1)
    with pytest.raises(TypeError, match=r"argument 6 must be a float64 number, got None"):
        call("clip_rows_float64", uniform, 1, 2, PLACE[:1], 1, None, 1)
    with pytest.raises(TypeError, match=r"argument 3 must be a contiguous bool tensor on the CPU or None, got a int64"):
        call("softmax_loss_float64", uniform[0], uniform, integers(1, 1, 2), uniform[0], uniform, 1, 2, 1)
    with pytest.raises(AttributeError, match="no_such_kernel"):
        call("no_such_kernel", 1)


def test_what_a_kernel_writes_counts_as_changed_and_what_it_reads_does_not():
    before = [each._version for each in (PLACE, ORDER, ROW, BEGIN)]
    call("group_rows", *group())
    after = [each._version for each in (PLACE, ORDER, ROW, BEGIN)]
    assert [now > then for now, then in zip(after, before, strict=True)] == [False, True, True, True]
    weight = randn(3, 2).requires_grad_()
    loss = weight.square().sum()
    adagrad(weight.detach(), torch.zeros(3, 2, dtype=torch.float64), randn(3, 2), lr=0.1, eps=1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def left_out(queries: int) -> LeftOut:
    none = torch.full((queries,), -1)
    return LeftOut(none + 1, none, torch.zeros(1, dtype=torch.int64), PLACE[:0])


def counts(queries: int) -> RankCounts:
    return RankCounts(*(torch.zeros(queries, dtype=torch.int64) for _ in range(3)))


def update(how: Callable[..., None], gradient: RowGradient, width: int = 4, ball: Ball | None = None) -> None:
    """Of a table of five rows."""
    how(ROWS.clone(), torch.zeros(5, width, dtype=torch.float64), gradient, ball=ball or Ball((), None))


ADAM = {"everywhere": False, "rate": 1.0, "root": 0.3, "betas": (0.9, 0.9), "eps": 1.0, "weight_decay": 0.0}
GRADIENT = RowGradient(torch.tensor([0, 4]), randn(2, 4))
rowwise = partial(update, partial(rowwise_adagrad, lr=0.1, eps=1.0))
Q, C2 = randn(4, 4), integers(5, 2, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: pair_scores(Comparison.L1, randn(5, 4), ROWS, C2), "5 queries are not divided evenly over 2 chunks"),
        (lambda: pair_scores(Comparison.L1, randn(4, 3), ROWS, C2), r"rows must have shape \[5, 3\], got \[5, 4\]"),
        (
            lambda: query_gradient(Comparison.L1, Q, ROWS, C2, randn(4, 3), randn(4, 2)),
            r"score must have shape \[4, 3\], got \[4, 2\]",
        ),
        (lambda: mask_known(integers(1, 3), PLACE, PLACE, C2), "3 queries are not divided evenly over 2 chunks"),
        (lambda: draw(randn(3, 4), randn(2, 5).sigmoid()), r"uniform must have shape \[3, 5\], got \[2, 5\]"),
        (
            lambda: sampled_policy_gradient(randn(3, 4), integers(4, 3, 2), randn(3, 1), randn(3)),
            r"advantage must have shape \[3, 2\], got \[3, 1\]",
        ),
        (lambda: exact_policy_gradient(randn(3, 4), randn(3, 4), randn(2)), r"weight must have shape \[3\], got \[2\]"),
        (
            lambda: euclidean_scores(randn(1, 2, 3), randn(1, 2, 4), randn(1, 3, 5)),
            r"candidate must have shape \[1, 3, 4\], got \[1, 3, 5\]",
        ),
        (
            lambda: euclidean_gradients(
                randn(1, 2, 2), randn(1, 2, 3), randn(1, 2, 4), randn(1, 3, 4), Precision.FLOAT32
            ),
            r"coefficient must have shape \[1, 2, 3\], got \[1, 2, 2\]",
        ),
        (
            lambda: row_loss(RowLoss.SOFTMAX, randn(3), randn(3, 4), randn(3, 3) > 0, ()),
            r"known must have shape \[3, 4\], got \[3, 3\]",
        ),
        (
            lambda: row_loss_gradient(RowLoss.SOFTMAX, randn(3), randn(3, 4), None, randn(3, 1), randn(3), ()),
            r"state must have shape \[3, 2\], got \[3, 1\]",
        ),
        (
            lambda: log_sum_exp_slope(randn(3, 4), randn(2), randn(3)),
            r"log_sum must have shape \[3\], got \[2\]",
        ),
        (
            lambda: sum_softplus_slope(randn(3, 4), randn(4), 1.0),
            r"weight must have shape \[3\], got \[4\]",
        ),
        (
            lambda: make_queries(Combination.PRODUCT, ROWS, PLACE, randn(2, 3), PLACE, 1),
            r"relations must have shape \[2, 4\], got \[2, 3\]",
        ),
        (
            lambda: entity_gradient(Combination.PRODUCT, Q, randn(2, 4), PLACE, 1),
            r"relation must have shape \[4\], got \[3\]",
        ),
        (
            lambda: relation_gradient(Combination.PRODUCT, Q, ROWS, PLACE, PLACE, 3, 1),
            r"gradient must have shape \[3, 4\], got \[4, 4\]",
        ),
        (
            lambda: dropped_products(Q, randn(5, 7), integers(5, 4), randn(4, 7) > 0, transposed=False),
            r"matrices must have shape \[5, 4\], got \[5, 7\]",
        ),
        (
            lambda: dropped_products(Q, randn(5, 8), PLACE, randn(4, 8) > 0, transposed=True),
            r"number must have shape \[4\], got \[3\]",
        ),
        (
            lambda: dropped_outer_sums(Q, randn(4, 3), integers(5, 4), randn(4, 8) > 0, 5),
            r"kept must have shape \[4, 12\], got \[4, 8\]",
        ),
        (
            lambda: dropped_outer_sums(Q, randn(3, 3), integers(5, 4), randn(4, 12) > 0, 5),
            r"right must have shape \[4, 3\], got \[3, 3\]",
        ),
        (lambda: count_ranks(counts(3), randn(2, 4), 4, randn(2), left_out(2), 0), r"must have shape \[2\], got \[3\]"),
        (
            lambda: count_ranks(counts(2), randn(2, 4), 5, randn(2), left_out(2), 0),
            "5 rows have no scores in 4 columns",
        ),
        (lambda: rowwise(GRADIENT, width=2), r"square_sum must have shape \[5, 1\], got \[5, 2\]"),
        (
            lambda: rowwise(GRADIENT, width=1, ball=Ball((1, 2), 0.5)),
            r"parts of widths \(1, 2\) do not make rows of width 4",
        ),
        (
            lambda: rowwise(RowGradient(torch.tensor([0, 4]), randn(2, 3)), width=1),
            r"the rows' gradient must have shape \[2, 4\], got \[2, 3\]",
        ),
        (
            lambda: adam(ROWS.clone(), randn(5, 4), randn(5, 3), GRADIENT, ball=Ball((), None), **ADAM),
            r"mean and square must have shape \[5, 4\], got \[5, 3\]",
        ),
        (
            lambda: sum_rows([GatheredGradient(PLACE, randn(2, 4))], ROWS, torch.float64),
            r"the gradient of copied rows must have shape \[3, 4\], got \[2, 4\]",
        ),
        (
            lambda: sum_rows([PairGradient(C2, Comparison.L1, randn(4, 2), randn(4, 3), Q)], ROWS, torch.float64),
            r"coefficient must have shape \[4, 3\], got \[4, 2\]",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_that_do_not_agree_are_refused(function: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        function()


@pytest.mark.parametrize("size", ["target", "known", "weight"])
@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_of_a_walk_that_do_not_agree_are_refused(size: str):
    if not can_contrast(Comparison.DOT, ROWS):
        pytest.skip("torch was built with another library of matrix products")
    arguments = {"target": integers(5, 4), "known": randn(4, 3) > 0, "weight": randn(4)}
    arguments[size] = arguments[size][:-1]
    with pytest.raises(ValueError, match=f"^{size} must have shape"):
        contrast(Comparison.DOT, RowLoss.SOFTMAX, 1.0, 1.0, Q, ROWS, C2, **arguments)


@pytest.mark.parametrize(
    ("changed", "shape"),
    [
        ("state", (4, 4)),
        ("state", (3, 5)),
        ("update", (7, 4)),
        ("bias", (3,)),
        ("by_after", (2, 4)),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_of_a_layer_that_do_not_agree_are_refused(changed: str, shape: tuple[int, ...]):
    given = {"state": randn(2, 4), "message": randn(3, 4), "update": randn(8, 4), "bias": randn(4)}
    given["by_after"] = randn(3, 4)
    with pytest.raises(ValueError, match=f"^{changed} must have shape"):
        grow_gradient(**given | {changed: randn(*shape)})
    del given["by_after"]
    if changed != "by_after":
        with pytest.raises(ValueError, match=f"^{changed} must have shape"):
            grow(**given | {changed: randn(*shape)})


@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_of_walks_that_do_not_agree_are_refused():
    edges = OutEdges(torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2]).int(), torch.zeros(2).int(), randn(2) > -9, 1)
    heads = nodes_of(edges, torch.tensor([0, 1]))
    nodes, none = reach(edges, heads, heads), torch.zeros(2, dtype=torch.int64)
    wide = Nodes(nodes.query, nodes.entity, torch.zeros(2, 4, dtype=torch.int32))
    for given, message in (
        (lambda: choose(edges, nodes, randn(3), 1), "priority must have shape"),
        (lambda: choose(edges, wide, randn(4), 1), "place must have shape"),
        (lambda: reach(edges, wide, wide), "place must have shape"),
        (lambda: send(edges, wide, none, randn(4, 2), randn(1, 1, 2), 4), "place must have shape"),
        (lambda: send(edges, heads, none, randn(3, 2), randn(1, 1, 2), 4), "state must have shape"),
        (lambda: send(edges, heads, none, randn(2, 2), randn(1, 2, 2), 4), "weight must have shape"),
        (lambda: send_gradient(edges, heads, none, randn(2, 2), randn(1, 1, 2), randn(4, 3)), "the sums must have"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            given()


@pytest.mark.parametrize(
    ("changed", "shape"),
    [("query", (2,)), ("of_query", (2, 3)), ("of_state", (4, 3)), ("to_score", (3,)), ("by_score", (2,))],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_sizes_of_scores_of_states_that_do_not_agree_are_refused(changed: str, shape: tuple[int, ...]):
    given = {"state": randn(3, 4), "query": integers(2, 3).int(), "of_query": randn(2, 4), "of_state": randn(4, 4)}
    given |= {"to_score": randn(4), "by_score": randn(3)}
    given[changed] = randn(*shape).to(given[changed].dtype)
    with pytest.raises(ValueError, match=f"^{changed} must have shape"):
        state_scores_gradient(**given)
    del given["by_score"]
    if changed != "by_score":
        with pytest.raises(ValueError, match=f"^{changed} must have shape"):
            state_scores(**given)


@pytest.mark.parametrize(
    "source",
    [
        lambda: GatheredGradient(PLACE, randn(3, 4, dtype=torch.float32)),
        lambda: GatheredGradient(PLACE, randn(4, 3).T),
        lambda: PairGradient(C2, Comparison.L1, randn(4, 3).int(), randn(4, 3), Q),
        lambda: PairGradient(C2, Comparison.L1, randn(4, 3), randn(3, 4).T, Q),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_gradients_of_other_numbers_are_refused(source: Callable[[], GatheredGradient | PairGradient]):
    with pytest.raises(TypeError, match=r"must be a contiguous float64 tensor on the CPU, got a"):
        sum_rows([source()], ROWS, torch.float64)


@pytest.mark.parametrize("wrong", [-1, 5, 1 << 40])
@pytest.mark.parametrize("of", [group_rows, distinct_rows])
def test_rows_that_there_are_not_are_refused(of: Callable[[Tensor, int], Any], wrong: int):
    with pytest.raises(IndexError, match=rf"^place 2 is row {wrong}: there are rows 0 to 4$"):
        of(torch.tensor([0, 4, wrong, -7]), 5)


def test_updates_of_rows_that_there_are_not_are_refused():
    for row in ([0, 5], [-1, 2]):
        with pytest.raises(IndexError, match=rf"^gradients of rows {row[0]} to {row[1]} for a table of 5$"):
            rowwise(RowGradient(torch.tensor(row), randn(2, 4)), width=1)


def test_more_occurrences_than_int32_can_number_are_refused():
    place = torch.zeros(1, dtype=torch.int64).expand(2**31)  # takes no memory
    message = "^2147483648 occurrences of rows: at most 2147483647, what int32 holds$"
    with pytest.raises(OverflowError, match=message):
        group_rows(place, 5)
    nothing = torch.zeros(1, 0, dtype=torch.float64).expand(2**31, 0)
    with pytest.raises(OverflowError, match=message):
        sum_rows([GatheredGradient(place, nothing)], torch.zeros(5, 0, dtype=torch.float64), torch.float64)
    with pytest.raises(OverflowError, match=r"^2147483648 negatives of a chunk: at most"):
        mask_known(PLACE[:0], PLACE[:1], PLACE[:0].int(), place[:0, None].expand(0, 2**31))


def test_a_gradient_is_not_summed_from_rows_that_have_changed():
    rows = ROWS.clone()
    score = pair_scores(Comparison.L1, Q, rows, C2)
    gradient = RowGradient.of([PairGradient(C2, Comparison.L1, torch.ones_like(score), score, Q)], rows)
    rows.mul_(2)
    for use in (lambda: gradient.value, lambda: rowwise(gradient, width=1)):
        with pytest.raises(RuntimeError, match=r"^the rows have changed since their gradient was made"):
            use()
