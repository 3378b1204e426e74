"""Triton's kernels as a GPU runs them: large sizes, and numbers that must be equal to the bit."""

import pytest
import torch

import kernels.counter_random
import kernels.gpu.counter_random
import kernels.gpu.filtered_counts
import kernels.gpu.known
from kernels.filtered_counts import LeftOutRanges
from kernels.gpu.pairs import candidate_gradient, pair_scores, query_gradient
from kernels.pairs import Comparison
from kernels.precision import Precision, lowered, multiplied, tf32
from tests.kernels.arrays import integers, randn
from tests.kernels.test_filtered_counts import left_out_of, one_by_one
from tests.kernels.test_known import brute_force, index_of, random_answers

pytestmark = pytest.mark.gpu
GPU = "cuda"


def test_l1_above_2_to_31_numbers():
    queries, candidates, width = 4096, 2048, 264  # 2.2e9 numbers in torch.cdist's backward, which is wrong from 2^31 on
    query, rows = (randn(n, width, dtype=torch.float32, seed=n) for n in (queries, candidates))
    coefficient = randn(queries, candidates, dtype=torch.float32, seed=1)
    place = torch.arange(candidates)[None]
    given = Comparison.L1, query.to(GPU), rows.to(GPU), place.to(GPU)
    score = pair_scores(*given)
    some = [0, 1, queries // 2, queries - 1]
    expected = -torch.cdist(query[some].double(), rows.double(), p=1)
    torch.testing.assert_close(score[some].cpu().double(), expected, rtol=1e-5, atol=0)
    by_query = query_gradient(*given, coefficient.to(GPU), score).cpu().double()
    by_candidate = candidate_gradient(*given, coefficient.to(GPU), score)[0].cpu().double()
    for q in some:
        sign = (query[q] - rows).sign().double()
        torch.testing.assert_close(by_query[q], -(coefficient[q, :, None] * sign).sum(0), rtol=1e-4, atol=1e-3)
    for c in (0, candidates - 1):
        sign = (rows[c] - query).sign().double()
        torch.testing.assert_close(by_candidate[c], -(coefficient[:, c, None] * sign).sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", [Precision.TF32, Precision.BFLOAT16])
def test_rounded_products_are_sums_of_factors_that_are_rounded_to_nearest(precision: Precision):
    left, right = randn(2, 300, 200, dtype=torch.float32), randn(2, 200, 256, dtype=torch.float32, seed=1)
    rounded = (tf32(each) if precision == Precision.TF32 else each.bfloat16() for each in (left, right))
    one, other = (each.double() for each in rounded)
    product = multiplied(*(lowered(each.to(GPU), precision) for each in (left, right)), precision)
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"
    torch.testing.assert_close(product.cpu().double(), one @ other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("stream", [0, -5, 2**62 + 3])
def test_random_numbers_are_the_cpus_bit_for_bit(stream: int):
    outer = integers(2**62, 500) - 2**61
    for high in (7, 2**40 + 1):
        mine = kernels.gpu.counter_random.random_integers(stream, outer.to(GPU), 300, high)
        assert mine.cpu().equal(kernels.counter_random.random_integers(stream, outer, 300, high))
    mine = kernels.gpu.counter_random.random_uniform(stream, outer.to(GPU), 300)
    assert mine.cpu().equal(kernels.counter_random.random_uniform(stream, outer, 300))


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 1, 7), (3, 4, 50), (1, 6, 300)])
def test_masks_of_known_facts(shape: tuple[int, int, int]):
    chunks, positives, negatives = shape
    entities = integers(1 << 31, 25, seed=1)
    answers = random_answers(entities, seed=2)
    query, entity = integers(9, chunks * positives, seed=3) - 1, entities[integers(25, chunks, negatives, seed=4)]
    offset, answer = index_of(answers)
    found = kernels.gpu.known.mask_known(*(each.to(GPU) for each in (query, offset, answer, entity)))
    assert found.tolist() == brute_force(query, answers, entity)


@pytest.mark.parametrize("rows", [7, 40, 5000])
def test_counts_of_ranking(rows: int):
    left_out = left_out_of(rows, rows)
    scores = integers(50, len(left_out.target), rows + 1, seed=2).float()
    truth = scores.gather(1, left_out.target[:, None])[:, 0]
    expected = one_by_one(scores[:, :rows], truth, left_out)
    names = ("target", "begin", "end", "answer", "row_of_entity")
    on_gpu = LeftOutRanges(*(getattr(left_out, name).to(GPU) for name in names))
    counts = kernels.gpu.filtered_counts.count_filtered(scores.to(GPU), rows, truth.to(GPU), on_gpu, 0)
    assert counts.tolist() == expected
