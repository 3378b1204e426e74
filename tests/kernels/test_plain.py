"""Where there is no compiler plain torch gives the same numbers: function by function, and over steps of training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels.library
from discriminator.loss.log_sigmoid import LogSigmoid
from discriminator.loss.loss import Loss, Scores
from discriminator.loss.margin_ranking import MarginRanking
from discriminator.loss.self_adversarial import SelfAdversarial
from discriminator.loss.softmax import Softmax
from embedding.lookup import Lookup
from embedding.model import KGEModel
from embedding.model_optimizer import ModelOptimizer
from embedding.optimizer import RowwiseAdagrad
from embedding.scoring.candidates import Candidates
from embedding.scoring.compare import inner_products, minus_l1, minus_l2, minus_modulus
from embedding.scoring.complex import ComplEx
from embedding.scoring.rotate import RotatE
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transd import TransD
from embedding.scoring.transe import TransE
from generator.sampler import NegativeSampler, Reward
from generator.uniform import UniformSampler
from graph.known import KnownTriples
from kernels.draws import draw, exact_policy_gradient, sampled_policy_gradient
from kernels.precision import Precision
from kernels.row_sources import GatheredGradient
from kernels.row_sums import sum_occurrences, sum_rows, whole_sum, whole_sum_of_occurrences
from tests.kernels.arrays import assert_close, both_types, every_width, integers, randn, without_kernels
from tests.worlds import (
    adam,
    batch_of,
    context_of,
    distmult,
    families,
    kbgan_of,
    lazy_adam,
    model_of,
    player_of,
    site_of,
    transe,
)

SCORINGS: dict[str, Callable[[int], ScoringFunction]] = {
    "TransE L1": transe,
    "TransE L2": lambda dim: TransE(dim, norm=2, precision="float32"),
    "TransD L1": lambda dim: TransD(dim, norm=1),
    "TransD L2": lambda dim: TransD(dim, norm=2),
    "DistMult": distmult,
    "ComplEx": lambda dim: ComplEx(dim, precision="float32"),
    "RotatE": RotatE,
}
LOSSES: dict[str, Loss] = {
    "softmax": Softmax(),
    "self-adversarial": SelfAdversarial(2.0, 1.0),
    "log-sigmoid": LogSigmoid(margin=2.0, reduction="mean"),
    "margin": MarginRanking(3.0),
}
OPTIMIZERS: dict[str, Callable[[KGEModel], ModelOptimizer]] = {
    "adam": adam,
    "lazy adam": lazy_adam,
    # A gradient of 0 but for rounding must not be divided by its own size.
    "adagrad": lambda model: RowwiseAdagrad(model, lr=0.1, relation_lr=None, eps=1e-4, clip_norm=None),
}
COMPARISONS: dict[str, Callable[[Tensor, Candidates], Tensor]] = {
    "dot": lambda query, candidates: inner_products(query, candidates, Precision.FLOAT32),
    "l1": minus_l1,
    "l2": lambda query, candidates: minus_l2(query, candidates, Precision.FLOAT32),
    "modulus": minus_modulus,
}


def assert_same_both_ways(run: Callable[..., Any], *given: Any, tolerance: float = 1e-10) -> None:
    assert kernels.library.usable(torch.zeros(1))
    for compiled, plain in zip(run(*given), without_kernels(run, *given), strict=True):
        assert compiled.dtype == plain.dtype
        assert_close(compiled, plain, 3e-6 if compiled.dtype == torch.float32 else tolerance)


def test_a_kernel_that_is_called_without_a_library_says_so():
    with pytest.raises(RuntimeError, match=r"^random_uniform was called although no library could be built$"):
        without_kernels(lambda: kernels.library.call("random_uniform"))


@pytest.mark.parametrize("number", [torch.float16, torch.bfloat16, torch.int32])
def test_numbers_of_other_types_are_left_to_torch(number: torch.dtype):
    assert kernels.library.usable(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    assert not kernels.library.usable(torch.zeros(2), torch.zeros(2, dtype=number))
    assert not kernels.library.usable(torch.zeros(2, device="meta"))


@every_width
@both_types
def test_sums_of_copied_rows(width: int, dtype: torch.dtype):
    sources = [GatheredGradient(integers(9, 30, seed=n), randn(30, width, dtype=dtype, seed=n)) for n in range(2)]
    rows = randn(9, width, dtype=dtype)
    for out in (torch.float64, torch.float32):
        assert_same_both_ways(sum_rows, sources, rows, out)
        assert_same_both_ways(sum_rows, [], rows, out)
        assert_same_both_ways(sum_occurrences, sources[0].place, sources[0].value, 9, out)
        assert_same_both_ways(whole_sum, sources, rows, out)
        assert_same_both_ways(whole_sum, [], rows, out)
    assert_same_both_ways(whole_sum_of_occurrences, sources[0].place, sources[0].value, 11)


@every_width
@both_types
def test_draws_and_policy_gradients(width: int, dtype: torch.dtype):
    logits, reward, weight = randn(9, width, dtype=dtype), randn(9, width, dtype=dtype, seed=1), randn(9, dtype=dtype)
    uniform, advantage = torch.sigmoid(randn(9, 6)), randn(9, 6, dtype=dtype, seed=2)
    logits[:, 1:3] = -torch.inf

    def run() -> list[Tensor]:
        log_prob, pick = draw(logits, uniform)
        gradients = (
            sampled_policy_gradient(log_prob, pick, advantage, weight),
            exact_policy_gradient(log_prob, reward, weight),
        )
        return [log_prob.exp(), pick, *gradients]

    assert_same_both_ways(run)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
@both_types
def test_losses(name: str, masked: bool, dtype: torch.dtype):
    positive, negative = randn(9, dtype=dtype).requires_grad_(), 3 * randn(9, 21, dtype=dtype, seed=1)
    known = randn(9, 21, seed=2) > 0
    known[3], known[4] = True, False
    if masked:
        negative[known] = torch.inf
    negative.requires_grad_()

    def run() -> list[Tensor]:
        loss = LOSSES[name](Scores(positive, negative, known if masked else None))
        return [loss, *torch.autograd.grad(loss, (positive, negative), torch.ones_like(loss))]

    assert_same_both_ways(run)


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("shape", [(6, 1, 5), (2, 3, 7), (1, 9, 8), (0, 0, 4)])
@pytest.mark.parametrize("width", [2, 14, 50])
def test_comparisons(name: str, shape: tuple[int, int, int], width: int):
    chunks, queries, candidates = shape
    query, rows = randn(chunks * queries, width).requires_grad_(), randn(11, width, seed=1).requires_grad_()
    place = integers(11, chunks, candidates)

    def run() -> list[Tensor]:
        score = COMPARISONS[name](query, Candidates(Lookup.of(rows), place))
        return [score, *torch.autograd.grad(score, (query, rows), randn(*score.shape, seed=2))]

    assert_same_both_ways(run)


@pytest.mark.parametrize(("chunk_size", "heads"), [(1, 0), (1, 5), (4, 2), (8, 1), (4, 6)])
def test_known_negatives(chunk_size: int, heads: int):
    graph = families()
    known = KnownTriples.of(graph.train, graph.num_entities, graph.num_relations)
    batch = batch_of(graph.train[:24], chunk_size=chunk_size, heads=heads)
    pool = integers(graph.num_entities, 24 // chunk_size, 40)
    pool[:, :20] = pool[:, 20:]
    assert known.contains(batch, pool).any()
    assert_same_both_ways(lambda: [known.contains(batch, pool), known.contains(batch, batch.target[:, None])])


def train(
    scoring: Callable[[int], ScoringFunction],
    loss: Loss,
    optimizer: Callable[[KGEModel], ModelOptimizer],
    sampler_of: Callable[..., NegativeSampler],
    *,
    dtype: torch.dtype = torch.float64,
    steps: int = 3,
    **batch: Any,
) -> list[Tensor]:
    """Everything that some steps change: the players' rows, relations, and what the sampler drew."""
    graph = families()
    context = context_of(graph, site_of(graph, dtype=dtype))
    sampler = sampler_of(context)
    player = player_of(model_of(context.site, dim=6, scoring=scoring, max_norm=1.0), loss, optimizer)
    drawn = []
    for step in range(steps):
        positives = batch_of(graph.train[24 * step : 24 * step + 24], first=step * 24, **batch)
        negatives = sampler.propose(positives, partial(player.score_candidates, positives))
        verdict = player.judge(positives, negatives)
        player.learn(verdict)
        sampler.feedback(positives, negatives, Reward(verdict.reward, float(verdict.reward.mean())))
        drawn += [negatives.entity, verdict.loss.detach(), verdict.positive, verdict.negative, verdict.reward]
    models = [player.model, *([sampler.model] if sampler.model else [])]
    return [
        *drawn,
        *(model.entity.weight.clone() for model in models),
        *(model.scorer.relation.detach().clone() for model in models),
    ]


@pytest.mark.parametrize("name", SCORINGS)
@pytest.mark.parametrize(("chunk_size", "heads"), [(1, 9), (4, 3), (24, 0)])
def test_training_with_each_scoring_function(name: str, chunk_size: int, heads: int):
    sampler = partial(UniformSampler, num_negatives=5, mask_known=True, redraw_known=False)
    batch = {"chunk_size": chunk_size, "heads": heads}
    assert_same_both_ways(lambda: train(SCORINGS[name], MarginRanking(3.0), adam, sampler, **batch))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_with_each_loss_and_optimizer(loss: str, optimizer: str):
    sampler = partial(UniformSampler, num_negatives=7, mask_known=True, redraw_known=False)
    run = partial(train, transe, LOSSES[loss], OPTIMIZERS[optimizer], sampler, chunk_size=2, heads=5)
    assert_same_both_ways(run)


@pytest.mark.parametrize("estimator", ["reinforce", "exact"])
@pytest.mark.parametrize(("chunk_size", "heads"), [(1, 9), (4, 3)])
@pytest.mark.parametrize("mask_known", [False, True])
def test_training_against_a_generator(estimator: str, chunk_size: int, heads: int, mask_known: bool):
    sampler = partial(kbgan_of, estimator=estimator, mask_known=mask_known, temperature=0.5)
    for scoring in (transe, SCORINGS["TransE L2"]):
        run = partial(train, scoring, MarginRanking(3.0), lazy_adam, sampler, chunk_size=chunk_size, heads=heads)
        assert_same_both_ways(run)


@pytest.mark.parametrize("name", SCORINGS)
def test_a_step_in_float32(name: str):
    sampler = partial(UniformSampler, num_negatives=5, mask_known=True, redraw_known=False)
    optimizer = partial(
        RowwiseAdagrad, lr=0.01, relation_lr=None, eps=1e-3, clip_norm=None
    )  # not Adam's: its first step is the gradient's sign
    run = partial(train, SCORINGS[name], SelfAdversarial(2.0, 1.0), optimizer, sampler, steps=1, dtype=torch.float32)
    assert_same_both_ways(run, tolerance=1e-5)
