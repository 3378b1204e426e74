"""Steps that are said to be the same are recorded, and compared: what a CUDA graph of one would do wrong in another."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import generator
from embedding.model_optimizer import State
from embedding.optimizer import RowwiseAdagrad
from generator.baseline import PreviousEpoch
from generator.sampler import NegativeSampler, Reward
from graph.batch import Batch
from graph.counter_random import stream
from graph.repeated_batch import RepeatedBatch
from kernels.row_gradient import RowGradient
from kernels.updates import rowwise_adagrad
from tests.pretended_gpu.drive import alone, built
from tests.pretended_gpu.launches import triton_launches
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.recording import Recording, differences, recorded
from tests.pretended_gpu.refusals import RefusedError
from trainer import step_graph
from trainer.loop import Trainer
from trainer.step_graph import StepGraph

_BOTH = ("trainer.sides=both", "trainer.cuda_graph=true")
_POOL = ("generator=uniform", "generator.num_negatives=8", "trainer.chunk_size=16", "trainer.batch_size=64")
_ALONE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
_KBGAN = ("generator=kbgan", "generator.pool_size=4", "generator.dim=4", "discriminator=transe", *_ALONE)
_COMPLEX = ("discriminator=complex", "loss=softmax", "optimizer=rowwise_adagrad")
STEPS = {
    "TransE L1, shared pool, self-adversarial": (
        *(*_POOL, *_BOTH, "discriminator=transe", "loss=self_adversarial", "optimizer=rowwise_adagrad"),
    ),
    "ComplEx, shared pool, both sides, softmax": (*_POOL, *_BOTH, *_COMPLEX),
    "KBGAN": (*_KBGAN, *_BOTH, "loss=margin_ranking", "optimizer=adam", "trainer.batch_size=64"),
    "own negatives, lazy Adam, clipped": (
        *("generator=bernoulli", "generator.num_negatives=2", *_BOTH, "discriminator=complex", "loss=softmax"),
        *("optimizer=lazy_adam", "optimizer.clip_norm=0.1", "trainer.batch_size=64"),
    ),
    "reciprocal relations, one side": (*_POOL, "trainer.cuda_graph=true", *_COMPLEX, "discriminator.reciprocal=true"),
}
_TINY = ("trainer.batch_size=16", "discriminator.dim=4", "trainer.cuda_graph=true")
WITH_TRITON = {
    "TransE L1, shared pool, self-adversarial": (
        *("generator=uniform", "generator.num_negatives=2", "trainer.chunk_size=4", "discriminator=transe"),
        *("loss=self_adversarial", "optimizer=rowwise_adagrad", *_TINY),
    ),
    "ComplEx, shared pool, both sides, softmax": (
        *("generator=uniform", "generator.num_negatives=2", "trainer.chunk_size=4", *_COMPLEX, *_TINY),
        "trainer.sides=both",
    ),
    "KBGAN, its own setting": (*_KBGAN, "loss=margin_ranking", "optimizer=adam", *_TINY),
}


def graph_of(trainer: Trainer) -> StepGraph:
    """A graph of the last stage that warms up for ever: each step runs as it would be recorded."""
    stage = trainer.stages[-1]
    return StepGraph(stage, trainer.means, partial(trainer.training_step.run, stage, lr_factor=1.0))


def recordings(
    options: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int, triton: bool = False
) -> list[Recording]:
    """Of so many steps in each of two epochs, with other learning rates, and a step that nothing repeats between."""
    monkeypatch.setattr(step_graph, "_WARM_UP", 1000)
    made = []
    with pretended_gpu() as counts, triton_launches(counts) if triton else nullcontext():
        _, trainer = built(options, folder, alone("cuda"), epochs=2)
        stage, graph = trainer.stages[-1], graph_of(trainer)
        run = graph._run

        def recorded_run(batch: Batch) -> None:
            with recorded(counts) as recording:
                run(batch)
            made.append(recording)

        monkeypatch.setattr(graph, "_run", recorded_run)
        epoch = stage.order.steps_per_epoch
        batches = [each for each in map(stage.order.batch, range(2 * epoch)) if graph.takes(each)]
        chosen = [*batches[: 1 + steps], *[each for each in batches if each.epoch == 1][:steps]]
        for number, batch in enumerate(chosen):
            if number == 1 + steps:
                trainer.train_step(stage, epoch)
            graph.step(batch, 1.0 / (1 + number))
        heads = {batch.head_chunks for batch in chosen}
    assert len(heads) > 1 or "trainer.sides=both" in options
    return made[1:]  # the first shows which numbers there are


@pytest.mark.parametrize("name", STEPS)
def test_nothing_differs_between_steps_but_the_contents_of_tensors(
    name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = recordings(STEPS[name], tmp_path, monkeypatch, steps=2)
    assert len(made) == 4 and len(made[0].lines) > 100
    assert not (found := differences(made)), "\n".join(found)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("name", WITH_TRITON)
def test_nothing_differs_with_tritons_kernels(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = recordings(WITH_TRITON[name], tmp_path, monkeypatch, steps=1, triton=True)
    assert any("Triton: " in line for line in made[0].lines)
    assert not (found := differences(made)), "\n".join(found)


_LOSSES = ("bce", "debiased", "infonce", "log_sigmoid", "margin_ranking", "nce", "sampled_softmax")
_SCORING = ("transh", "transr", "transd", "distmult", "simple", "rescal", "rotate", "quate", "pairre", "hake")
_MORE = {
    **{name: (f"loss={name}", "discriminator=complex", "optimizer=rowwise_adagrad") for name in _LOSSES},
    "learned temperature": ("loss=infonce", "loss.learn_temperature=true"),
    **{name: (f"discriminator={name}", "loss=self_adversarial") for name in _SCORING},
    "cardinality": ("generator=cardinality", "loss=softmax"),
    "exact": ("generator=kbgan", *_KBGAN[1:3], *_ALONE, "generator.estimator=exact", "generator.entropy_weight=0.1"),
    "distinct draws": (*_KBGAN, "generator.replacement=false", "generator.num_negatives=2"),
    "leave one out": (*_KBGAN, "baseline@generator.baseline=leave_one_out", "generator.num_negatives=2"),
    "normalised": (*_KBGAN, "generator.normalise_reward=true"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _MORE)
def test_of_many_more_options(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = (*_POOL, *_BOTH, *_MORE[name])
    assert not (found := differences(recordings(options, tmp_path, monkeypatch, steps=1))), "\n".join(found)


def test_every_sampler_that_may_be_repeated_is_among_them():
    for module in pkgutil.iter_modules(generator.__path__):
        importlib.import_module(f"generator.{module.name}")

    def below(owner: type[NegativeSampler]) -> list[type[NegativeSampler]]:
        return [each for sub in owner.__subclasses__() for each in (sub, *below(sub))]

    of_project = [each for each in below(NegativeSampler) if each.__module__.startswith("generator.")]
    may_be = {each.__module__.removeprefix("generator.") for each in of_project if "repeats" in dir_of(each)}
    recorded_here = {"uniform", "bernoulli", "cardinality", "kbgan"}
    assert may_be - recorded_here == {"false_negative_aware"}, "record its steps in this file; this one never repeats"


def dir_of(sampler: type[NegativeSampler]) -> set[str]:
    """Names that a sampler or one of its bases defines, beside those of all samplers."""
    return {name for each in sampler.__mro__ if each is not NegativeSampler for name in vars(each)}


def frozen_stream(self: RepeatedBatch, purpose: str) -> int:
    return stream(purpose, self.seed, self.epoch)


def frozen_rate(self: RowwiseAdagrad, rows: Tensor, state: State, gradient: RowGradient) -> None:
    rowwise_adagrad(
        rows, state["square_sum"], gradient, lr=self.lr, eps=self.eps, ball=self.model.entity_ball, good=self.good
    )


def moved_state(self: PreviousEpoch, reward: Reward, batch: Batch) -> Tensor:
    self.total = self.total + reward.mean
    return reward.value - self.total


PLANTED = {
    "a key of random numbers": (RepeatedBatch, "_stream", frozen_stream, "bitwise_xor: int64"),
    "a learning rate": (RowwiseAdagrad, "_update_rows", frozen_rate, "addcdiv: float32"),
    "a state in new memory": (PreviousEpoch, "advantage", moved_state, "add: float64"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_a_graph_would_freeze_is_found_at_its_line(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    owner, attribute, planted, said = PLANTED[name]
    monkeypatch.setattr(owner, attribute, planted)
    options = STEPS["KBGAN" if owner is PreviousEpoch else "ComplEx, shared pool, both sides, softmax"]
    found = differences(recordings(options, tmp_path, monkeypatch, steps=2))
    assert found and said in "\n".join(found)


def compared(one: Callable[[], object], two: Callable[[], object]) -> list[str]:
    with pretended_gpu() as counts:
        made = []
        for each in (one, two):
            with recorded(counts) as recording:
                each()
            made.append(recording)
        return differences(made)


def test_what_differs_between_recordings():
    def add(number: float = 1.0, size: int = 3, times: int = 1) -> None:
        for _ in range(times):
            torch.zeros(size, device="cuda").add_(number)

    assert compared(add, add) == []
    (number,) = compared(add, partial(add, 2.0))
    assert "add_" in number and "1.0" in number and "2.0" in number
    assert "float32[4]" in "".join(compared(add, partial(add, size=4)))
    (longer,) = compared(add, partial(add, times=2))
    assert longer.startswith("the end: the other step has ") and longer.endswith(" zeros")


def test_what_must_not_happen_while_a_graph_is_recorded():
    with pretended_gpu():
        graph, value = torch.cuda.CUDAGraph(), torch.ones(2, device="cuda")
        mode = {"capture_error_mode": "thread_local"}
        with pytest.raises(RefusedError, match="recorded on the default stream"):
            torch.cuda.graph(graph, stream=torch.cuda.current_stream(), **mode).__enter__()

        def record(ask: Callable[[], object]) -> None:
            with torch.cuda.graph(graph, stream=torch.cuda.Stream(), **mode):
                ask()

        with pytest.raises(RefusedError, match="the host waits while a graph is recorded: _local_scalar_dense"):
            record(value.sum().item)
        with pytest.raises(RefusedError, match="copy to the GPU while a graph is recorded"):
            record(lambda: torch.ones(2).pin_memory().to("cuda", non_blocking=True))


def test_a_replay_does_again_what_was_recorded_and_recording_does_nothing():
    with pretended_gpu():
        graph, state = torch.cuda.CUDAGraph(), torch.ones(2, device="cuda")
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            state.mul_(2)
            made = torch.zeros(2, device="cuda")
            made[1:].add_(state[1:] + 1)
        assert state.tolist() == [1.0, 1.0] and made.isnan().all()
        graph.replay()
        assert state.tolist() == [2.0, 2.0] and made.tolist() == [0.0, 3.0]
        state.fill_(5)
        graph.replay()
        assert state.tolist() == [10.0, 10.0] and made.tolist() == [0.0, 11.0]
