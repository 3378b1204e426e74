"""Learning by every loss and term is the same on any number of ranks, of positives that weigh differently."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from discriminator.discriminator import Discriminator
from discriminator.loss.infonce import InfoNCE
from discriminator.reward import ScoreReward
from discriminator.term.l2 import L2
from discriminator.term.n3 import N3
from discriminator.term.relation_prediction import RelationPrediction
from embedding.encoder.choice import EncoderChoice
from embedding.model import KGEModel
from embedding.scoring.complex import ComplEx
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives, Proposal
from graph.known import KnownTriples
from graph.sampling import PositiveOrder
from graph.subsampling import subsampling_weights
from launch import schema
from launch.parts import build_loss
from tests.discriminator.test_loss_contract import CASES, LEARNED, TABLE_CASES, config_of
from tests.encoders import KINDS, LAYER
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, context_of, families, lazy_adam, model_of, site_of
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime

bilinear = partial(ComplEx, precision="float32")
ENCODER = partial(KINDS["compgcn mult"], **LAYER | {"dropout": 0.1, "batch_norm": True})
SAMPLED = partial(KINDS["compgcn mult"], **LAYER | {"layers": 2, "dropout": 0.1, "fanout": [3, 2]})
MODELS: dict[str, Callable[..., KGEModel]] = {
    "plain": partial(model_of, scoring=bilinear),
    "reciprocal": partial(model_of, scoring=bilinear, reciprocal=True),
    "encoded": partial(model_of, scoring=bilinear, reciprocal=True, encoder=EncoderChoice(ENCODER, families().train)),
    "sampled": partial(model_of, scoring=bilinear, reciprocal=True, encoder=EncoderChoice(SAMPLED, families().train)),
}
STATISTICS = context_of(families()).statistics
TERMS = {
    "l2": L2(STATISTICS, weight=0.1, relation_weight=None, by_frequency=False),
    "n3": N3(STATISTICS, weight=0.1, relation_weight=0.2, by_frequency=True),
    "relation_prediction": RelationPrediction(weight=0.5),
}


@dataclass(frozen=True)
class Case:
    loss: str
    options: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    model: str = "plain"
    dtype: torch.dtype = torch.float64


RUNS = [
    *(Case(case.name, case.options) for case in [*CASES, *TABLE_CASES]),
    *(Case("softmax", terms=(term,), model=model) for term in TERMS for model in MODELS),
    Case("k_vs_all", terms=tuple(TERMS), model="reciprocal"),
    Case("infonce", (LEARNED, "log_q=true"), tuple(TERMS), dtype=torch.float32),
    Case("k_vs_all", terms=tuple(TERMS), dtype=torch.float32),
]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-6}


def negatives_of(batch: Batch, known: KnownTriples) -> Negatives:
    """With everything that a sampler may know of them."""
    entity = batch.integers("negatives", 6, 128)
    log_q = (torch.arange(1.0, 129.0, dtype=torch.float64) / (64 * 129)).log()
    own = per_positive(entity, len(batch.head))
    proposal = Proposal(log_q[own], log_q[batch.target])
    return Negatives(entity, known=known.contains(batch, entity), proposal=proposal, suspected=own % 3 == 0)


def train(rank: int, world_size: int, case: Case, config: DictConfig) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of some steps, and all that they changed. The last step has no chunk for a third rank."""
    runtime, graph = Runtime(rank, world_size, torch.device("cpu")), families()
    known = KnownTriples.of(graph.train, graph.num_entities, graph.num_relations)
    model = MODELS[case.model](site_of(graph, runtime, dtype=case.dtype))
    player = Discriminator(
        model,
        loss=build_loss(config, known),
        reward=ScoreReward(),
        optimizer=lazy_adam,
        terms=[TERMS[term] for term in case.terms],
    )
    order = PositiveOrder(
        graph.train,
        torch.full((graph.num_relations,), 0.5, dtype=torch.float64),
        batch_size=10,
        chunk_size=2,
        sides="one",
        seed=3,
        weight=partial(subsampling_weights, graph.known),
    )
    losses = []
    for step in range(4):
        batch = order.batch(step)
        batch = batch.chunks(0, 2) if step == 3 else batch
        player.begin_step(batch)
        batch = runtime.share(batch)
        verdict = player.judge(batch, negatives_of(batch, known))
        player.learn(verdict)
        losses.append(float(runtime.add(verdict.loss.detach())))
    values = {"entity": model.entity.gather_all(model.learned_rows.detach()).double(), **model.dense_tensors()}
    return losses, {name: value.clone() for name, value in values.items()}


def train_all(rank: int, world_size: int, configs: list[DictConfig]) -> list[tuple[list[float], dict[str, Tensor]]]:
    schema.register()  # values that a recipe may give are interpolations
    return [train(rank, world_size, case, config) for case, config in zip(RUNS, configs, strict=True)]


@pytest.fixture(scope="module")
def configs() -> list[DictConfig]:
    """Of all runs' losses, composed here: ranks would each do it again."""
    return [config_of(case.loss, *case.options) for case in RUNS]


@pytest.fixture(scope="module")
def alone(configs: list[DictConfig]) -> list[tuple[list[float], dict[str, Tensor]]]:
    return train_all(0, 1, configs)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_learning_is_the_same_on_ranks(world_size: int, configs: list[DictConfig], alone: list[Any]):
    for found in run_on_ranks(world_size, train_all, configs):
        for case, (losses, values), (losses_alone, values_alone) in zip(RUNS, found, alone, strict=True):
            tolerance = TOLERANCE[case.dtype]
            assert losses == pytest.approx(losses_alone, rel=tolerance), case
            assert values.keys() == values_alone.keys()
            for name, value in values_alone.items():
                options = {"rtol": tolerance, "atol": tolerance}
                torch.testing.assert_close(values[name], value, **options, msg=lambda text, c=case: f"{c}: {text}")


@pytest.mark.parametrize("case", [Case("infonce", (LEARNED,)), Case("softmax", terms=("relation_prediction",))])
def test_everything_that_is_learned_moves(case: Case):
    _, values = train(0, 1, case, config_of(case.loss, *case.options))
    fresh = MODELS[case.model](site_of(families()))
    known = KnownTriples.of(families().train, 128, 20)
    fresh.attached.put("loss", build_loss(config_of(case.loss, *case.options), known))
    before = {"entity": fresh.entity.gather_all(fresh.entity.weight), **fresh.dense_tensors()}
    assert values.keys() == before.keys()
    for name, value in values.items():
        assert not value.equal(before[name]), name


def run_of(folder: Path, runtime: Runtime) -> tuple[KBGANRun, InfoNCE]:
    """Three stages whose judge learns a temperature; the adversarial one is 21 to 25."""
    loss = build_loss(config_of("infonce", LEARNED), KnownTriples.of(families().train, 128, 20))
    assert isinstance(loss, InfoNCE)
    return KBGANRun(folder, runtime, loss=loss), loss


def result_of(run: KBGANRun, loss: InfoNCE) -> dict[str, Tensor]:
    return {**run.parameters(), "temperature": loss.temperature.detach()}


def broken_run(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    """Stopped by a signal in the adversarial stage, and gone on with by another process."""
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    run, _ = run_of(folder, runtime)
    step_of, stop_at = run.trainer.train_step, 23

    def train_step(*given: object) -> object:
        if run.trainer.cursor.step == stop_at - 1:
            runtime.stop_signal = signal.SIGTERM
        return step_of(*given)  # pyright: ignore[reportArgumentType]

    run.trainer.train_step = train_step  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Stopped):
        run.fit()
    assert run.trainer.cursor.step == stop_at
    again, loss = run_of(folder, Runtime(rank, world_size, torch.device("cpu")))
    checkpoint = find_checkpoint(folder, "latest", "resume")
    again.trainer.resume(checkpoint, again.trainer.checkpointer.read_manifest(checkpoint))
    again.fit()
    return result_of(again, loss)


def unbroken_run(folder: Path) -> dict[str, Tensor]:
    run, loss = run_of(folder, Runtime(0, 1, torch.device("cpu")))
    run.fit()
    return result_of(run, loss)


def test_a_learned_temperature_is_resumed(tmp_path: Path):
    expected = unbroken_run(tmp_path / "unbroken")
    assert abs(float(expected["temperature"]) - 1.0) > 1e-3
    for name, value in broken_run(0, 1, tmp_path / "broken").items():
        assert value.equal(expected[name]), name


@pytest.mark.slow
def test_a_learned_temperature_is_resumed_on_ranks(tmp_path: Path):
    expected = unbroken_run(tmp_path / "unbroken")
    for found in run_on_ranks(2, broken_run, tmp_path / "broken"):
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-11, msg=lambda t, n=name: f"{n}: {t}")
