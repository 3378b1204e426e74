"""What every negative sampler promises, whichever it is."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import generator
from embedding.encoder.choice import EncoderChoice
from embedding.fixed_pieces import ChunkShare
from generator.false_negative_aware import FalseNegativeAwareSampler
from generator.pooled import PooledSampler
from generator.sampler import NegativeSampler, Reward, SamplerContext
from generator.typed import TypedSampler
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from launch import schema
from launch.parts import build_sampler
from tests.configs import CONF, composed
from tests.encoders import KINDS, LAYER
from tests.ranks import run_on_ranks
from tests.worlds import batch_of, context_of, families, in_order, model_of, one_rank, order_of, site_of
from trainer.checkpoint import Checkpointer, Player
from trainer.runtime import Runtime

# 29 wrong triples of the test graph, on both sides of every third of its first train facts.
NEGATIVES = Path(__file__).with_name("negatives.tsv")
SAMPLERS = sorted(path.stem for path in (CONF / "generator").glob("*.yaml"))

# Other settings of a sampler that must keep the promises too, beside those of its yaml.
VARIANTS: dict[str, list[list[str]]] = {
    "diverse": [["hardness=1.0", "mask_known=true"], ["hardness=0.0"]],
    "eans": [["spread=5.5", "refresh_steps=2"]],
    "hasa": [["bank_size=40"]],
    "near_miss": [["window=around", "list_size=100"]],
    "nearest": [["metric=dot", "refresh_epochs=1", "uniform_share=0.0"]],
    "nscaching": [["num_negatives=3", "mask_known=true", "select=top", "refresh_epochs=2"]],
    "bernoulli": [["redraw_known=true"]],
    "cardinality": [["one_side_share=0.7", "mask_known=true"]],
    "curriculum": [
        ["/hard=nscaching", "progress=margin", "shape=cosine"],
        ["share=[0.4,0.6]", "pool_size=[4,40]", "temperature=[2.0,0.5]", "steps=3", "hard.normalise_reward=true"],
    ],
    "degree": [["power=0.0", "mask_known=true"], ["redraw_known=true"]],
    "in_batch": [["slots=both", "num_uniform=5"]],
    "k_hop": [["hops=3", "pool=walks", "mask_known=false"], ["hops=1", "uniform_share=0.0", "redraw_known=true"]],
    "from_file": [["uniform_share=0.4", "mask_known=false"], ["redraw_known=true", "num_negatives=5"]],
    "mixture": [
        ["/parts.hard=kbgan", "parts.easy.mask_known=true", "/parts.easy=degree"],
        ["/parts.hard=near_miss", "/parts.easy=typed"],
        ["/parts.hard=from_file", f"parts.hard.file={NEGATIVES}"],
    ],
    "typed": [["uniform_share=0.0", "mask_known=false"], ["redraw_known=true", "num_negatives=8"]],
    "uniform": [["num_negatives=60", "mask_known=true"], ["redraw_known=true"]],
    "kbgan": [
        ["num_negatives=2"],
        ["estimator=exact", "pool_size=6"],
        ["mask_known=true", "pool_size=40", "num_negatives=2", "/baseline=leave_one_out"],
        ["/baseline=running_mean"],
        ["/baseline=per_query", "num_negatives=2"],
        ["replacement=false", "num_negatives=3", "entropy_weight=0.5", "entropy_floor=2.5", "normalise_reward=true"],
        ["replacement=false", "num_negatives=20", "mask_known=true"],
    ],
    "false_negative_aware": [
        ["estimator=reinforce", "normalise_reward=false", "mask_known=true", "/baseline=per_query", "pool_size=2"]
    ],
    "influence": [["damping=0.1", "temperature=0.0", "mask_known=false", "num_negatives=64"]],
    "whole_table_softmax": [["mask_known=false", "supervised_weight=0.0"], ["num_negatives=124"]],
}


@dataclass(frozen=True)
class Case:
    name: str
    options: tuple[str, ...]
    """Overrides of conf/generator/NAME.yaml; "/group=choice" is one of a group inside it."""

    def make(self, context: SamplerContext, config: DictConfig | None = None) -> NegativeSampler:
        """The sampler as a run would have it, on this context."""
        return build_sampler(config or config_of(self), context, "generator")

    def chunk_size(self, wanted: int) -> int:
        """The size nearest to the wanted one that the sampler can work with."""
        if self.name == "in_batch":  # the chunk's other positives are its negatives
            return max(wanted, 2)
        own = self.name in ("typed", "k_hop", "from_file") or "redraw_known=true" not in self.options
        return wanted if own else 1  # what is known of one positive may be unknown of another

    def batch(self, chunk_size: int = 1, *, facts: int = 12, after: int = 0, epoch: int = 0) -> Batch:
        """Positives of which half have their head corrupted."""
        size = self.chunk_size(chunk_size)
        chosen = families().train[after : after + facts]
        return batch_of(chosen, heads=facts // size // 2, chunk_size=size, epoch=epoch)


def config_of(case: Case) -> DictConfig:
    """The sampler's part of a run's config."""
    groups = {
        "/baseline": "baseline@generator.baseline",
        "/hard": "generator@generator.hard",
        "/parts.easy": "generator@generator.parts.easy",
        "/parts.hard": "generator@generator.parts.hard",
    }
    pairs = [option.split("=", 1) for option in case.options]
    options = [f"{groups.get(key, 'generator.' + key)}={value}" for key, value in pairs]
    return composed("train", f"generator={case.name}", *SMALL.get(case.name, []), *options).generator


# What makes a yaml fit a graph of 128 entities, or a test's patience.
SMALL: dict[str, list[str]] = {
    "from_file": [f"generator.file={NEGATIVES}"],
    "kbgan": ["generator.dim=4"],
    "false_negative_aware": ["generator.dim=4"],
    "whole_table_softmax": ["generator.dim=4"],
    "influence": ["generator.held_out=40", "generator.refresh_steps=2"],
}
CASES = [Case(name, tuple(options)) for name in SAMPLERS for options in [[], *VARIANTS.get(name, [])]]
every_sampler = pytest.mark.parametrize("case", CASES, ids=[" ".join([case.name, *case.options]) for case in CASES])


def context(runtime: Runtime | None = None) -> SamplerContext:
    """What a sampler is given, with the model that its negatives would train."""
    site = site_of(families(), runtime)
    return context_of(families(), site, model_of(site))


def opinion(batch: Batch, context: SamplerContext) -> Callable[[Tensor], Tensor]:
    """The scores of the model that is trained, without gradient, for samplers that ask."""
    assert context.player is not None
    return torch.no_grad()(partial(context.player.score_candidates, batch))


def propose(case: Case, batch: Batch) -> tuple[NegativeSampler, Negatives]:
    """A new sampler and its first negatives."""
    given = context()
    sampler = case.make(given)
    return sampler, sampler.propose(batch, opinion(batch, given))


def reward_of(sampler: NegativeSampler, batch: Batch, negatives: Negatives, runtime: Runtime | None = None) -> Reward:
    """A reward that depends on the entity alone, with the means that the sampler asks for."""
    entity = negatives.pool if negatives.reward_pool else negatives.entity
    assert entity is not None
    value = per_positive(entity, len(batch.head)).double().mul(0.37).sin()
    asked = sampler.statistics()
    numbers = [value.mean(1), *(statistic(value, value.mean(1), value) for statistic in asked.values())]
    mean, *means = (runtime or one_rank()).add(torch.stack([batch.share_of_mean(each) for each in numbers])).tolist()
    return Reward(value, mean, dict(zip(asked, means, strict=True)))


def play(case: Case, config: DictConfig, runtime: Runtime, steps: int) -> list[tuple[Tensor, int]]:
    """The negatives of some steps of a learning sampler, for this rank's share of each batch; how many are of heads."""
    given = context(runtime)
    sampler = case.make(given, config)
    sampler.start_stage()
    order = order_of(families(), sampler, batch_size=12, chunk_size=case.chunk_size(4))
    drawn = []
    for step in range(steps):
        chunks = order.batch(step).chunks_of_parts(runtime.world_size)
        batch = runtime.share(order.batch(step))
        # Every other step in pieces of a fixed size, of samplers that say that they can.
        is_fixed = step % 2 == 1 and runtime.world_size > 1 and min(chunks) > 0 and sampler.undo() is not None
        for model in filter(None, (sampler.model, given.player)):
            model.entity.pieces.share = ChunkShare(len(batch.chunk), max(chunks)) if is_fixed else None
        negatives = sampler.propose(batch, opinion(batch, given))
        sampler.feedback(batch, negatives, reward_of(sampler, batch, negatives, runtime))
        drawn.append((per_positive(negatives.entity, len(batch.head)), batch.head_rows))
    return drawn


def test_every_sampler_has_a_yaml():
    for module in pkgutil.iter_modules(generator.__path__):
        importlib.import_module(f"generator.{module.name}")
    found, new = set[type](), [NegativeSampler]
    while new:
        base = new.pop()
        new += base.__subclasses__()
        if base.__module__.startswith("generator.") and not inspect.isabstract(base):
            found.add(base)
    assert found == {get_object(OmegaConf.load(CONF / "generator" / f"{name}.yaml")._target_) for name in SAMPLERS}


@every_sampler
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_proposes_negatives_of_the_promised_shape(case: Case, chunk_size: int):
    batch = case.batch(chunk_size)
    _, negatives = propose(case, batch)
    rows, count = negatives.entity.shape
    assert rows % len(batch.chunk) == 0
    assert len(batch.head) % rows == 0
    assert count >= 1
    assert ((negatives.entity >= 0) & (negatives.entity < families().num_entities)).all()
    for value in (negatives.known, negatives.log_prob, negatives.suspected):
        assert value is None or value.shape == (12, count)
    if negatives.proposal is not None:
        assert negatives.proposal.negative.shape == (12, count)
        assert negatives.proposal.target.shape == (12,)
        for value in (negatives.proposal.negative, negatives.proposal.target):
            assert value.isfinite().all()
            assert (value <= 1e-12).all()
            assert not value.requires_grad
    if negatives.log_prob is not None:
        assert (negatives.log_prob <= 0).all()
        assert not negatives.log_prob.requires_grad
    assert not negatives.reward_pool or negatives.pool is not None


@every_sampler
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_draws_do_not_depend_on_how_a_batch_is_split(case: Case, chunk_size: int):
    batch = case.batch(chunk_size)
    _, whole = propose(case, batch)
    chunks = len(batch.chunk)
    # In one and the rest, in halves, and what a rank gets for which there is no chunk.
    for start, stop in {(0, 1), (1, chunks), (0, chunks // 2), (chunks // 2, chunks), (chunks, chunks)}:
        part = batch.chunks(start, stop)
        _, split = propose(case, part)
        rows = slice(start * batch.chunk_size, stop * batch.chunk_size)
        assert per_positive(split.entity, len(part.head)).equal(per_positive(whole.entity, 12)[rows])
        assert split.known is None or split.known.equal(whole.known[rows])


@every_sampler
def test_a_rank_without_chunks_takes_part(case: Case):
    batch = case.batch().chunks(0, 0)
    sampler, negatives = propose(case, batch)
    assert len(negatives.entity) == 0
    sampler.feedback(batch, negatives, reward_of(sampler, batch, negatives))
    assert all(value.shape == (0,) for value in sampler.metrics().values())


@every_sampler
def test_draws_are_a_function_of_seed_and_epoch(case: Case):
    batch = case.batch()

    def draws(batch: Batch) -> Tensor:
        return per_positive(propose(case, batch)[1].entity, 12)

    first = draws(batch)
    assert first.equal(draws(batch))
    assert not first.equal(draws(replace(batch, epoch=1)))
    assert not first.equal(draws(replace(batch, seed=4)))
    assert not first.equal(draws(replace(batch, chunk=batch.chunk + 12)))


@every_sampler
def test_known_facts_are_flagged_where_masking_is_asked_for(case: Case):
    facts = set(map(tuple, families().train.tolist()))
    train = families().train[:200]
    batch = case.batch(facts=200)
    sampler, negatives = propose(case, batch)
    if negatives.known is None:
        assert not getattr(sampler, "mask_known", False)
        return
    for row, (head, relation, tail) in enumerate(train.tolist()):
        for slot, entity in enumerate(per_positive(negatives.entity, len(train))[row].tolist()):
            triple = (entity, relation, tail) if row < batch.head_rows else (head, relation, entity)
            assert bool(negatives.known[row, slot]) == (triple in facts)


@every_sampler
def test_metrics_are_one_value_a_positive(case: Case):
    batch = case.batch(3)
    sampler, negatives = propose(case, batch)
    sampler.feedback(batch, negatives, reward_of(sampler, batch, negatives))
    for name, value in sampler.metrics().items():
        assert name.startswith("generator/")
        assert value.shape == (12,)
        assert value.isfinite().all()
        assert not value.requires_grad


@every_sampler
def test_goes_on_from_its_state_as_if_nothing_had_happened(case: Case, tmp_path: Path):
    epochs = [0, 0, 1, 1, 2]  # saved in the middle of epoch 1, where a baseline has seen half of it

    def step(sampler: NegativeSampler, number: int) -> Tensor:
        # Facts come again after three steps, so that what is kept of each of them is used again.
        batch = case.batch(after=12 * (number % 3), epoch=epochs[number])
        negatives = sampler.propose(replace(batch, step=number), opinion(batch, given))
        sampler.feedback(batch, negatives, reward_of(sampler, batch, negatives))
        return negatives.entity

    given = context()
    first, second = (case.make(given) for _ in range(2))
    first.start_stage()
    for number in range(3):
        step(first, number)
    second.start_stage()
    players = [{"generator": Player(each.model, each.optimizer)} if each.model else {} for each in (first, second)]
    checkpointer = Checkpointer(tmp_path, one_rank(), keep=1)
    path = checkpointer.save("here", players[0], first.state(), {}, first.keyed_rows())
    second.load_state(checkpointer.load(path, players[1], second.keyed_rows()))
    for number in range(3, 5):
        assert step(first, number).equal(step(second, number))
    if first.model is not None and second.model is not None:
        assert first.model.entity.weight.equal(second.model.entity.weight)
        assert first.model.scorer.relation.equal(second.model.scorer.relation)


@every_sampler
def test_a_sampler_that_can_undo_steps_puts_back_what_they_change(case: Case):
    given = context()
    sampler = case.make(given)

    def step(number: int) -> Callable[[], object] | None:
        batch = case.batch(after=12 * number, epoch=number // 2)
        for keyed in sampler.keyed_rows().values():
            keyed.holds_back = True  # as in such steps
        refreshes = sampler.refreshes(batch)
        negatives = sampler.propose(batch, opinion(batch, given))
        undo = None if refreshes else sampler.undo()
        sampler.feedback(batch, negatives, reward_of(sampler, batch, negatives))
        return undo

    def state() -> dict[str, Tensor]:
        rows = {name: keyed.row for name, keyed in sampler.keyed_rows().items()}
        return {name: value.clone() for name, value in (sampler.state() | rows).items()}

    for number in range(2):
        step(number)
    before = state()
    undo, *_ = [step(number) for number in range(2, 6)]  # epochs 1 and 2
    if undo is None:
        return
    undo()
    after = state()
    assert after.keys() == before.keys()
    assert all(after[name].equal(value) for name, value in before.items())


@every_sampler
def test_reads_the_rows_that_an_encoder_makes_of_sampled_neighbourhoods(case: Case):
    """With more draws than edges, they are those of the whole graph."""
    batch, drawn = case.batch(3), []
    for fanout in (None, [1000]):
        encoder = partial(KINDS["compgcn mult"], **LAYER | {"fanout": fanout})
        site = site_of(families())
        player = model_of(site, encoder=EncoderChoice(encoder, families().train))
        given = context_of(families(), site, player)
        player.begin_step(batch)
        drawn.append(case.make(given).propose(batch, opinion(batch, given)).entity)
    assert drawn[0].equal(drawn[1])


def play_all(rank: int, world_size: int, configs: list[DictConfig]) -> list[list[tuple[Tensor, int]]]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    schema.register()  # values that a recipe may give are interpolations
    return [play(case, config, runtime, 4) for case, config in zip(CASES, configs, strict=True)]


@pytest.mark.slow
def test_two_ranks_draw_what_one_draws():
    configs = [config_of(case) for case in CASES]  # composed here: ranks would each do it again
    parts = run_on_ranks(2, play_all, configs)
    differ = []
    for case, config, first, second in zip(CASES, configs, *parts, strict=True):
        alone = play(case, config, one_rank(), 4)
        same = [in_order([first[step], second[step]]).equal(whole) for step, (whole, _) in enumerate(alone)]
        if not all(same):
            differ.append(f"{case.name} {' '.join(case.options)}: first at step {same.index(False)}")
    assert differ == []


def test_signatures_show_the_options_that_are_passed_on():
    parameters = inspect.signature(FalseNegativeAwareSampler).parameters
    assert list(parameters)[:4] == ["context", "hidden_share", "penalty", "model"]
    assert parameters["pool_size"].annotation is int
    assert "options" not in parameters
    assert set(inspect.signature(TypedSampler).parameters) == set(inspect.signature(PooledSampler).parameters)
    assert "num_negatives" in inspect.signature(partial(TypedSampler, mask_known=True)).parameters
