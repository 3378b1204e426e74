"""The fused pass changes nothing but the time that a step takes, and a step that goes without says why."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import discriminator.fused
import kernels.contrast
import kernels.library
from discriminator.discriminator import Verdict
from discriminator.fused import why_not_fused
from discriminator.loss.log_sigmoid import LogSigmoid
from discriminator.loss.loss import Loss
from discriminator.loss.one_vs_all import OneVsAll
from discriminator.loss.self_adversarial import SelfAdversarial
from discriminator.loss.softmax import Softmax
from discriminator.loss.table_loss import TableLoss
from discriminator.term.l2 import L2
from embedding.scoring.complex import ComplEx
from embedding.scoring.scoring import ScoringFunction
from embedding.scoring.transe import TransE
from graph.batch import Batch, Negatives
from kernels.products import products
from tests.ranks import run_on_ranks
from tests.worlds import (
    batch_of,
    context_of,
    distmult,
    families,
    lazy_adam,
    model_of,
    one_rank,
    player_of,
    site_of,
    transe,
)
from trainer.runtime import Runtime

pytestmark = pytest.mark.skipif(products() is None, reason="torch was built with another library of matrix products")

SCORINGS: dict[str, Callable[[int], ScoringFunction]] = {
    "DistMult": distmult,
    "ComplEx": lambda dim: ComplEx(dim, precision="float32"),
    "TransE L2": lambda dim: TransE(dim, norm=2, precision="float32"),
}
LOSSES: dict[str, Loss] = {
    "softmax": Softmax(),
    "self-adversarial": SelfAdversarial(2.0, 0.5),
    "log-sigmoid": LogSigmoid(margin=2.0, reduction="mean"),
}
every_scoring = pytest.mark.parametrize("scoring", SCORINGS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def batch_and_negatives(*, masked: bool) -> tuple[Batch, Negatives]:
    """12 chunks of 4 that share 9 negatives each."""
    batch = batch_of(families().train[:48], heads=5, chunk_size=4)
    weight = torch.rand(48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    entity = torch.randint(families().num_entities, (12, 9), generator=torch.Generator().manual_seed(1))
    known = torch.rand(48, 9, generator=torch.Generator().manual_seed(3)) < 0.3
    batch = replace(batch, weight=weight, global_weight=float(weight.sum()))
    return batch, Negatives(entity, known=known if masked else None)


def train(
    scoring: str, loss: str, *, masked: bool, runtime: Runtime | None = None
) -> tuple[list[Verdict], Tensor, Tensor]:
    """Verdicts of three steps, and the rows that they led to, of entities and of relations."""
    runtime = runtime or one_rank()
    model = model_of(site_of(families(), runtime), scoring=SCORINGS[scoring])
    player = player_of(model, LOSSES[loss], lazy_adam)
    player.terms = [L2(context_of(families()).statistics, weight=0.1, relation_weight=None, by_frequency=True)]
    batch, negatives = batch_and_negatives(masked=masked)
    batch = replace(batch, chunk=torch.arange(12))
    share = runtime.share(batch)
    chunk = share.chunk
    known = None if negatives.known is None else negatives.known.view(12, 4, 9)[chunk].flatten(0, 1)
    verdicts = []
    for _ in range(3):
        verdicts.append(player.judge(share, Negatives(negatives.entity[chunk], known=known)))
        player.learn(verdicts[-1])
    return verdicts, model.entity.gather_all(model.entity.weight.detach()), model.scorer.relation.detach()


@pytest.mark.usefixtures("compiled")
@every_scoring
@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_three_steps_are_those_of_scores_first_and_loss_then(
    scoring: str, loss: str, masked: bool, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    call = kernels.contrast.call
    monkeypatch.setattr(kernels.contrast, "call", lambda *given: (calls.append(given[0]), call(*given)))
    fused = train(scoring, loss, masked=masked)
    assert len(calls) == 3
    monkeypatch.setattr(kernels.contrast, "products", lambda: None)
    apart = train(scoring, loss, masked=masked)
    assert len(calls) == 3
    for mine, theirs in zip(fused[0], apart[0], strict=True):
        for name in ("loss", "reward", "positive", "negative"):
            torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), rtol=1e-11, atol=1e-12)
    for mine, theirs in zip(fused[1:], apart[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


def train_as_rank(rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    _, *rows = train("TransE L2", "softmax", masked=True, runtime=Runtime(rank, world_size, torch.device("cpu")))
    return rows[0], rows[1]


@pytest.mark.slow
def test_ranks_learn_the_same():
    alone = train_as_rank(0, 1)
    for rows in run_on_ranks(3, train_as_rank):
        for mine, theirs in zip(rows, alone, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def own_negatives(batch: Batch, negatives: Negatives) -> tuple[Batch, Negatives]:
    """The same with negatives of each positive's own."""
    return batch, replace(negatives, entity=negatives.entity.repeat_interleave(4, 0))


@pytest.mark.parametrize(
    ("loss", "scoring", "change", "reason"),
    [
        (Softmax(), distmult, lambda *given: given, None),
        (OneVsAll(), distmult, lambda *given: given, "the loss OneVsAll compares positives with all entities"),
        (LogSigmoid(margin=1.0, reduction="sum"), distmult, lambda *given: given, "the loss LogSigmoid has no kernel"),
        (Softmax(), transe, lambda *given: given, "TransE has no fused comparison with these options"),
        (Softmax(), distmult, lambda b, n: (b, replace(n, reward_pool=True)), "the generator needs a reward for each"),
        (Softmax(), distmult, lambda b, n: (b.chunks(0, 0), Negatives(n.entity[:0])), "this rank has no positives"),
        (Softmax(), distmult, own_negatives, "fewer than 4 positives share their negatives"),
    ],
)
def test_says_why_a_step_is_not_fused(
    loss: Loss | TableLoss, scoring: Callable[[int], ScoringFunction], change: Callable, reason: str | None
):
    found = why_not_fused(
        loss, model_of(site_of(families()), scoring=scoring), *change(*batch_and_negatives(masked=False))
    )
    assert found == reason or (reason is not None and found is not None and found.startswith(reason))


def test_says_what_the_machine_lacks(monkeypatch: pytest.MonkeyPatch):
    given = Softmax(), model_of(site_of(families()), scoring=distmult), *batch_and_negatives(masked=False)
    monkeypatch.setattr(kernels.contrast, "products", lambda: None)
    assert "no MKL matrix product" in (why_not_fused(*given) or "")
    monkeypatch.setattr(kernels.library, "load", lambda: None)
    assert "kernels need a C++ compiler" in (why_not_fused(*given) or "")


def test_more_negatives_than_a_gpu_takes_go_without(monkeypatch: pytest.MonkeyPatch):
    for module in (discriminator.fused, kernels.contrast):
        monkeypatch.setattr(module, "usable_on_gpu", lambda *_: True)
    model, (batch, negatives) = model_of(site_of(families()), scoring=distmult), batch_and_negatives(masked=False)
    many = replace(negatives, entity=negatives.entity.repeat(1, 256))
    assert why_not_fused(Softmax(), model, batch, negatives) is None
    reason = why_not_fused(Softmax(), model, batch, many)
    assert reason == "on a GPU it takes at most 2048 negatives of a positive, got 2304"


def test_the_reason_is_logged_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    player = player_of(model_of(site_of(families()), scoring=distmult), Softmax(), lazy_adam)
    batch, negatives = batch_and_negatives(masked=False)
    player.judge(batch, negatives)
    assert not caplog.messages
    for _ in range(2):
        player.learn(player.judge(*own_negatives(batch, negatives)))
    (line,) = caplog.messages
    assert line.startswith("discriminator: the fused kernel is not used, because fewer than 4 positives")
