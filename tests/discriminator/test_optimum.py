"""Where losses have their optimum: free scores s(x, y), and the exact expectation over facts and draws.

A few queries x have answers y of known probability p(y | x); negatives come from some distribution q(y | x). Every
choice of a fact and of N negatives is a row that weighs by its probability, so that nothing is sampled.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from discriminator.loss.loss import Scores
from graph.batch import Proposal
from graph.known import KnownTriples
from launch.parts import build_loss
from tests.discriminator.test_loss_contract import config_of
from tests.worlds import families

QUERIES, ANSWERS = 3, 5
TOLERANCE = 1e-5


def distribution(seed: int, spread: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(QUERIES, ANSWERS, dtype=torch.float64, generator=generator)).softmax(1)


P = distribution(1, 1.0)
SAMPLERS = {"popular": distribution(2, 1.5), "adversarial": 0.8 * P + 0.2 / ANSWERS, "uniform": torch.full_like(P, 0.2)}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def optimum(name: str, options: tuple[str, ...], q: Tensor, negatives: int) -> Tensor:
    """The scores that minimise the expected loss; it is convex in them."""
    loss = build_loss(config_of(name, *options), KnownTriples.of(families().train, 128, 20))
    chosen = torch.tensor(list(product(range(QUERIES), *[range(ANSWERS)] * (1 + negatives))))
    query, target, drawn = chosen[:, 0], chosen[:, 1], chosen[:, 2:]
    weight = P[query, target] * q[query[:, None], drawn].prod(1) / QUERIES
    proposal = Proposal(q[query[:, None], drawn].log(), q[query, target].log())
    score = torch.zeros(QUERIES, ANSWERS, dtype=torch.float64, requires_grad=True)
    options = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 1e-16, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([score], **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = torch.dot(weight, loss(Scores(score[query, target], score[query[:, None], drawn], None, proposal)))
        value.backward()
        return value

    optimizer.step(closure)
    return score.detach()


def centred(value: Tensor) -> Tensor:
    """Up to a number of each query."""
    return value - value.mean(1, keepdim=True)


@every_sampler
@pytest.mark.parametrize("negatives", [1, 2])
def test_nce_finds_the_log_probabilities_themselves(sampler: str, negatives: int):
    found = optimum("nce", (), SAMPLERS[sampler], negatives)
    torch.testing.assert_close(found, P.log(), rtol=0, atol=TOLERANCE)


@every_sampler
@pytest.mark.parametrize("negatives", [1, 2])
@pytest.mark.parametrize(
    ("name", "options", "temperature"),
    [
        ("sampled_softmax", (), 1.0),
        ("infonce", ("log_q=true",), 1.0),
        ("infonce", ("log_q=true", "temperature=0.5"), 0.5),
    ],
)
def test_a_corrected_softmax_finds_them_up_to_a_number_of_each_query(
    sampler: str, negatives: int, name: str, options: tuple[str, ...], temperature: float
):
    found = optimum(name, options, SAMPLERS[sampler], negatives)
    torch.testing.assert_close(centred(found), centred(temperature * P.log()), rtol=0, atol=TOLERANCE)


@every_sampler
@pytest.mark.parametrize("name", ["softmax", "infonce"])
def test_without_correction_a_softmax_finds_them_less_log_q(sampler: str, name: str):
    q = SAMPLERS[sampler]
    found = optimum(name, (), q, 2)
    torch.testing.assert_close(centred(found), centred(P.log() - q.log()), rtol=0, atol=TOLERANCE)
    error = float((centred(found) - centred(P.log())).abs().max())
    assert error > 0.5 if sampler != "uniform" else error < TOLERANCE
    # One that draws what is likely leaves little to tell apart, and one that has favourites of its own ranks wrong.
    assert found.argsort(1).equal(P.argsort(1)) == (sampler != "popular")


@every_sampler
@pytest.mark.parametrize(("reduction", "negatives"), [("mean", 1), ("mean", 2), ("sum", 2)])
def test_without_correction_log_sigmoid_finds_them_less_log_q(sampler: str, reduction: str, negatives: int):
    q = SAMPLERS[sampler]
    found = optimum("log_sigmoid", ("margin=0.0", f"reduction={reduction}"), q, negatives)
    count = torch.tensor(float(negatives if reduction == "sum" else 1), dtype=torch.float64)
    torch.testing.assert_close(found, P.log() - q.log() - count.log(), rtol=0, atol=TOLERANCE)
