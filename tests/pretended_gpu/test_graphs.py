"""Steps that are repeated as a graph are, to the bit, those that are not."""

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedding.frozen import FrozenRows
from embedding.model_optimizer import ModelOptimizer
from graph.errors import InputError
from tests.pretended_gpu.drive import alone, built, fit, train
from tests.pretended_gpu.graphs import Graph
from tests.pretended_gpu.launches import triton_launches
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.test_not_finite import state_of
from trainer import step_graph
from trainer.step_graph import StepGraph, own_stream

_BOTH = ("trainer.sides=both", "trainer.cuda_graph=true", "trainer.log_every=7", "trainer.batch_size=96")
_SHARED = ("generator=uniform", "generator.num_negatives=16", "trainer.chunk_size=16", *_BOTH)
_ALONE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
_KBGAN = ("generator=kbgan", "generator.pool_size=8", "generator.dim=8", "discriminator=transe")
COMPLEX = (*_SHARED, "discriminator=complex", "loss=softmax", "optimizer=rowwise_adagrad", "schedule=cosine")
RUNS = {
    "ComplEx, row-wise Adagrad, cosine": COMPLEX,
    "KBGAN, Adam": (*_KBGAN, *_BOTH, *_ALONE, "loss=margin_ranking", "optimizer=adam"),
    "KBGAN, pretrained": (
        *(*_KBGAN, *_BOTH, "pretrain.generator.epochs=1", "pretrain.discriminator.epochs=1", "optimizer=lazy_adam"),
        *("loss=self_adversarial", "schedule=step", "schedule.warm_up=1.0"),
    ),
    "RotatE, lazy Adam, average, plateau": (
        *(*_SHARED, "discriminator=rotate", "loss=self_adversarial", "optimizer=lazy_adam", "average=ema"),
        *("schedule=plateau", "schedule.patience=0", "schedule.threshold=0.9", "optimizer.clip_norm=0.1"),
    ),
    "TransE, reciprocal relations, one side": (
        *(*_SHARED, "trainer.sides=one", "discriminator=transe", "discriminator.reciprocal=true"),
        "loss=self_adversarial",
    ),
}


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Gets a graph each time that it is replayed."""
    done, real = [], Graph.replay

    def replay(self: Graph) -> None:
        done.append(self)
        real(self)

    monkeypatch.setattr(Graph, "replay", replay)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_replays_is_the_run_without(name, tmp_path: Path, replays: list[Graph]):
    with pretended_gpu():
        graph = train(RUNS[name], tmp_path / "graph", alone("cuda"), epochs=3)
    assert len(set(map(id, replays))) >= 2, "one before and one after the resume"
    assert len(replays) > 10
    replays.clear()
    with pretended_gpu():
        eager = train((*RUNS[name], "trainer.cuda_graph=false"), tmp_path / "eager", alone("cuda"), epochs=3)
    assert not replays
    assert graph.steps == eager.steps
    assert graph.test == eager.test
    assert not different(graph.saved, eager.saved)


@pytest.mark.parametrize("asked", ["true", "null"])
def test_rows_that_are_frozen_once_the_trainer_is_made_are_not_repeated(asked: str, tmp_path: Path):
    options = (*COMPLEX, f"trainer.cuda_graph={asked}")
    with pretended_gpu():
        _, trainer = built(options, tmp_path, alone("cuda"), epochs=1)
        stage, model = trainer.stages[-1], trainer.stages[-1].player.model
        nothing = torch.zeros_like(model.learned_rows[:, 0], dtype=torch.bool)
        relation = torch.zeros_like(model.scorer.relation[:, 0], dtype=torch.bool)
        model.frozen = FrozenRows(nothing, relation, model.dense_tensors(), model.rows_of_a_relation())
        if asked == "true":
            with pytest.raises(InputError, match="because some rows of the discriminator are frozen"):
                trainer.training_step.begin(stage)
        else:
            trainer.training_step.begin(stage)
            assert not trainer.training_step.repeat(stage, 1)


def states(options: Sequence[str], folder: Path, *, repeated: bool, triton: bool = False) -> dict[str, Tensor]:
    """What the second to the fifth step of a run leave, each with another learning rate."""
    with pretended_gpu() as counts, triton_launches(counts) if triton else nullcontext():
        _, trainer = built(options, folder, alone("cuda"), epochs=2)
        stage = trainer.stages[-1]
        graph = StepGraph(stage, trainer.means, partial(trainer.training_step.run, stage, lr_factor=1.0))
        with own_stream(alone("cuda").device):
            for number in range(1, 5):
                batch, factor = stage.order.batch(number), 1 / number
                if repeated and graph.takes(batch):
                    graph.step(batch, factor)
                else:
                    trainer.training_step.run(stage, batch, lr_factor=factor)
        trainer.means.read()
        return {name: value.cpu() for name, value in state_of(trainer).items()} | stage.sampler.state()


def different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not other[name].equal(value)]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_learning_rate_that_a_graph_freezes_shows(frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_graph, "_WARM_UP", 1)
    if frozen:
        monkeypatch.setattr(ModelOptimizer, "_number", lambda self, of: of())
    graph, eager = (states(COMPLEX, tmp_path / str(each), repeated=each) for each in (True, False))
    assert bool(different(graph, eager)) == frozen


_TINY = ("trainer.batch_size=16", "discriminator.dim=4", "generator.num_negatives=2", "trainer.cuda_graph=true")
WITH_TRITON = {
    "TransE L1, one side": (
        *("generator=uniform", "trainer.chunk_size=4", "discriminator=transe", "loss=self_adversarial"),
        *("optimizer=rowwise_adagrad", *_TINY),
    ),
    "ComplEx, both sides": (
        *("generator=uniform", "trainer.chunk_size=4", "discriminator=complex", "loss=softmax", "trainer.sides=both"),
        *("optimizer=rowwise_adagrad", *_TINY),
    ),
    "KBGAN, one side, lazy Adam": (
        *(*_KBGAN, *_ALONE, *_TINY, "generator.dim=4", "generator.pool_size=4", "loss=margin_ranking"),
        *("optimizer=lazy_adam", "optimizer@generator.optimizer=lazy_adam"),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("name", WITH_TRITON)
def test_steps_with_tritons_kernels(name, tmp_path: Path, replays: list[Graph], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_graph, "_WARM_UP", 1)
    options = WITH_TRITON[name]
    graph = states(options, tmp_path / "graph", repeated=True, triton=True)
    assert len(replays) >= 2
    assert not different(graph, states(options, tmp_path / "eager", repeated=False, triton=True))


def test_a_loss_that_is_nan_in_a_repeated_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replays: list[Graph]):
    """Nothing moves from that step on, and the error names it, as without a graph."""
    with pretended_gpu():
        _, run = built((*COMPLEX, "trainer.log_every=1000"), tmp_path, alone("cuda"), epochs=2)
        epoch, bad = run.stages[-1].order.steps_per_epoch, []
        real = StepGraph._repeat

        def repeat(self: StepGraph, batch) -> None:
            if batch.step == epoch + 2:
                bad.append(state_of(run))
                run.players["discriminator"].model.scorer.relation.detach()[0] = float("nan")
                bad.append(state_of(run))
            real(self, batch)

        monkeypatch.setattr(StepGraph, "_repeat", repeat)
        with pytest.raises(
            InputError, match=rf"the loss is nan at step {epoch + 3}, epoch 1 of the training stage; no"
        ):
            fit(run, tmp_path)
        after = state_of(run)
        assert len(replays) > 5
        for name, value in bad[1].items():
            assert after[name].equal(value) or (name.endswith("relation") and after[name][1:].equal(value[1:])), name
    assert run.cursor.step == epoch + 2


def test_a_step_takes_a_few_launches_and_no_wait(tmp_path: Path):
    with pretended_gpu() as counts:
        _, trainer = built(COMPLEX, tmp_path, alone("cuda"), epochs=2)
        stage = trainer.stages[-1]
        graph = StepGraph(stage, trainer.means, partial(trainer.training_step.run, stage, lr_factor=1.0))
        with own_stream(alone("cuda").device):
            for number in range(1, 8):
                counts.clear()
                graph.step(stage.order.batch(number), 1 / number)
        assert not counts.syncs
        # The batch, its entities, the numbers, the graph, and a copy of the means.
        assert counts.kernels.total() == 5, counts.kernels


REFUSED = {
    "trainer.subsampling=true": "with trainer.subsampling or tables on disk, batches are made on the CPU",
    "quality=sampled": "quality=sampled counts on the host what each step scores",
    "generator=nscaching": "NSCachingSampler does other things in each step with these options",
    "generator.mask_known=true": "UniformSampler does other things in each step with these options",
    "loss=one_vs_all": "the loss OneVsAll compares positives with all entities",
    "term=[n3]": "the loss has terms, such as N3",
    "trainer.sides=one": "trainer.sides is one, so that batches differ in their sides, and the discriminator has no",
    "discriminator.entity_dropout=0.1": "the discriminator has a network or dropout between rows and scores",
}


@pytest.mark.parametrize(
    "option", [*list(REFUSED)[:3], *(pytest.param(each, marks=pytest.mark.slow) for each in list(REFUSED)[3:])]
)
def test_what_cannot_be_repeated_is_refused(option, tmp_path: Path):
    with pretended_gpu(), pytest.raises(InputError) as error:
        built((*COMPLEX, option), tmp_path, alone("cuda"), epochs=1)
    said = str(error.value)
    assert said.startswith("trainer.cuda_graph is true, but steps of the training stage can't be repeated as a CUDA ")
    assert f"because {REFUSED[option]}" in said and said.endswith(
        "; take null, which uses a graph where that is possible, or false"
    )


def test_a_cpu_has_no_graphs(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"trainer\.cuda_graph is true, but .* because the run is on the CPU; take null"
    ):
        built(COMPLEX, tmp_path, alone("cpu"), epochs=1)
