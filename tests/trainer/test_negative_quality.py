from collections import Counter
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discriminator.discriminator import Discriminator
from discriminator.loss.loss import Loss
from discriminator.loss.margin_ranking import MarginRanking
from discriminator.loss.self_adversarial import SelfAdversarial
from discriminator.loss.softmax import Softmax
from generator.nscaching import NSCachingSampler
from generator.sampler import NegativeSampler
from generator.uniform import UniformSampler
from graph.batch import Batch
from graph.errors import InputError
from graph.known import KnownTriples
from graph.sampling import PositiveOrder
from tests.ranks import run_on_ranks
from tests.worlds import (
    KBGANRun,
    batch_of,
    context_of,
    distmult,
    families,
    graph_of,
    model_of,
    one_rank,
    order_of,
    player_of,
    set_entities,
    site_of,
)
from trainer.hardness import hardness
from trainer.nce_error import nce_squared_error
from trainer.negative_quality import NegativeQuality
from trainer.runtime import Runtime
from trainer.schedule.constant import Constant
from trainer.stage import Cursor, Stage

OPTIONS = {"positives": 24, "draws": 20, "data_smoothing": 0.1, "noise_smoothing": 0.5}


def quality_of(graph=None, **options: Any) -> NegativeQuality:
    graph = graph or families()
    train = KnownTriples.of(graph.train, graph.num_entities, graph.num_relations)
    return NegativeQuality(one_rank(), graph, train, 3, **(OPTIONS | options))


def stage_of(sampler: NegativeSampler, *, loss: Loss | None = None, chunk_size: int = 1, scoring=distmult) -> Stage:
    player = player_of(model_of(site_of(families()), scoring=scoring), loss)
    order = order_of(families(), sampler, batch_size=63, chunk_size=chunk_size)
    return one_epoch(player, sampler, order)


def one_epoch(player: Discriminator, sampler: NegativeSampler, order: PositiveOrder) -> Stage:
    options = {"epochs": 1, "valid_every": 1, "patience": 0, "schedule": Constant(warm_up=0.0)}
    return Stage("training", "discriminator", player, sampler, order, **options)


def uniform(num_negatives: int = 8, *, mask_known: bool = False) -> UniformSampler:
    options = {"num_negatives": num_negatives, "mask_known": mask_known, "redraw_known": False}
    return UniformSampler(context_of(families()), **options)


class Favourites(UniformSampler):
    """Draws the first few entities alone, some of which make true triples."""

    def propose(self, batch: Batch, score: Any) -> Any:
        negatives = super().propose(batch, score)
        entity = negatives.entity % 5
        return replace(negatives, entity=entity, known=self.context.known.contains(batch, entity))


def drawn(quality: NegativeQuality, stage: Stage) -> list[tuple[tuple[int, int, int], bool, list[int]]]:
    """(positive, whether its head is corrupted, the entities that the loss takes) as plain numbers."""
    batch = quality._batch(stage, Cursor())
    draws = quality._draw(stage, batch)
    rows = []
    for row in range(len(batch.head)):
        if batch.weight[row] > 0:
            positive = int(batch.head[row]), int(batch.relation[row]), int(batch.tail[row])
            rows.append((positive, row < batch.head_rows, draws.entity[row][draws.kept[row]].tolist()))
    return rows


@pytest.mark.parametrize("chunk_size", [1, 7])
@pytest.mark.parametrize("mask_known", [False, True])
def test_shares_of_facts_and_diversity_are_those_of_counting(chunk_size: int, mask_known: bool):
    graph, quality = families(), quality_of()
    make = Favourites if mask_known else UniformSampler
    sampler = make(context_of(graph), num_negatives=8, mask_known=mask_known, redraw_known=False)
    stage = stage_of(sampler, chunk_size=chunk_size)
    found = quality.measure(stage, Cursor())
    rows = drawn(quality, stage)
    assert len(rows) == OPTIONS["positives"]
    assert all(len(entities) == OPTIONS["draws"] for _, _, entities in rows) is not mask_known
    triples = [
        (entity, relation, tail) if of_head else (head, relation, entity)
        for (head, relation, tail), of_head, entities in rows
        for entity in entities
    ]
    held_out = torch.cat([graph.valid, graph.test])
    for name, facts in (("known_true", graph.train), ("hidden_true", graph.hidden), ("unseen_true", held_out)):
        true = set(map(tuple, facts.tolist()))
        assert found[f"quality/{name}"] == pytest.approx(sum(t in true for t in triples) / len(triples))
    assert (found["quality/known_true"] > 0) is not mask_known
    shares = [len(set(entities)) / max(len(entities), 1) for _, _, entities in rows]
    assert found["quality/distinct"] == pytest.approx(sum(shares) / len(shares))
    counts = Counter(entity for _, _, entities in rows for entity in entities)
    entropy = -sum(n / len(triples) * log(n / len(triples)) for n in counts.values())
    assert found["quality/entropy"] == pytest.approx(entropy / log(graph.num_entities))
    assert found["quality/coverage"] == pytest.approx(len(counts) / graph.num_entities)


def brute_hardness(model: Any, batch: Batch, entity: Tensor) -> Tensor:
    everyone = torch.arange(len(model.entity.row_of_entity)).expand(len(batch.head), -1)
    scores = model.score_candidates(batch, everyone.contiguous()).tolist()
    found = [
        [
            sum((s < row[e]) + 0.5 * (s == row[e]) for other, s in enumerate(row) if other != e) / (len(row) - 1)
            for e in chosen
        ]
        for row, chosen in zip(scores, entity.tolist(), strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64)


def test_hardness_is_the_place_among_all_entities():
    graph = families()
    model = model_of(site_of(graph))
    batch = batch_of(graph.train[:12], heads=5)
    entity = torch.randint(graph.num_entities, (12, 9), generator=torch.Generator().manual_seed(0))
    found = hardness(model, batch, entity, one_rank())
    assert torch.allclose(found, brute_hardness(model, batch, entity))


def test_equal_scores_share_their_place():
    graph = families()
    model = model_of(site_of(graph))
    rows = torch.arange(graph.num_entities)[:, None] // 10 * torch.ones(4, dtype=torch.float64)
    set_entities(model, rows)
    batch = batch_of(graph.train[:6], heads=2)
    entity = torch.arange(0, 126, 6).expand(6, -1).contiguous()
    found = hardness(model, batch, entity, one_rank())
    assert torch.allclose(found, brute_hardness(model, batch, entity))
    set_entities(model, torch.ones_like(rows))
    assert torch.allclose(hardness(model, batch, entity, one_rank()), torch.tensor(0.5, dtype=torch.float64))


def measured_on(rank: int, world_size: int) -> dict[str, float]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    graph = families()
    site = site_of(graph, runtime)
    sampler = NSCachingSampler(
        context_of(graph, site),
        num_negatives=3,
        cache_size=6,
        fresh_size=6,
        temperature=1.0,
        select="importance",
        refresh_epochs=1,
        max_caches=None,
        mask_known=False,
    )
    order = order_of(graph, sampler, chunk_size=4)
    stage = one_epoch(player_of(model_of(site)), sampler, order)
    train = KnownTriples.of(graph.train, graph.num_entities, graph.num_relations)
    return NegativeQuality(runtime, graph, train, 3, **OPTIONS).measure(stage, Cursor(stage_step=2))


def test_every_measure_is_the_same_on_any_number_of_ranks():
    expected = measured_on(0, 1)
    for world_size in (2, 3):
        for found in run_on_ranks(world_size, measured_on):
            assert found == pytest.approx(expected, rel=1e-9)


def scores_of(quality: NegativeQuality, stage: Stage) -> list[tuple[float, list[float]]]:
    """The score of each positive and of its negatives, for each proposal."""
    batch = quality._batch(stage, Cursor())
    found = []
    for asked, negatives in quality._proposals(stage, batch):
        positive, negative = stage.player.model.score(asked, negatives.entity)
        found += zip(positive.tolist(), negative.tolist(), strict=True)
    return found


def test_active_in_the_margin_loss_is_a_hinge_that_is_not_0():
    quality = quality_of(draws=16)
    stage = stage_of(uniform(), loss=MarginRanking(0.4))
    hinges = [[0.4 - p + n > 0 for n in negative] for p, negative in scores_of(quality, stage)]
    share = sum(map(sum, hinges)) / (8 * len(hinges))
    found = quality.measure(stage, Cursor())
    assert 0.1 < share < 0.9
    assert found["quality/active"] == pytest.approx(share)
    norms = [sum(row) ** 0.5 / 8 for row in hinges]
    assert found["quality/gradient_norm"] == pytest.approx(sum(norms) / len(norms))


def softmax_slopes(positive: float, negative: list[float]) -> list[float]:
    whole = sum(np.exp([positive, *negative]))
    return [float(np.exp(n)) / whole for n in negative]


def self_adversarial_slopes(positive: float, negative: list[float]) -> list[float]:
    weight = np.exp([0.5 * n for n in negative])
    return [float(w / weight.sum() / (1 + np.exp(-1.0 - n))) for w, n in zip(weight, negative, strict=True)]


@pytest.mark.parametrize(
    ("loss", "slopes"), [(Softmax(), softmax_slopes), (SelfAdversarial(1.0, 0.5), self_adversarial_slopes)]
)
def test_active_in_other_losses_is_a_tenth_of_an_equal_share(loss: Loss, slopes: Any):
    quality = quality_of(draws=16)
    stage = stage_of(uniform(), loss=loss)
    with torch.no_grad():
        stage.player.model.entity.weight.mul_(1.5)
    rows = [slopes(p, n) for p, n in scores_of(quality, stage)]
    found = quality.measure(stage, Cursor())
    share = sum(slope > 0.1 / 8 for row in rows for slope in row) / (8 * len(rows))
    assert 0.1 < share < 0.9
    assert found["quality/active"] == pytest.approx(share)
    norms = [sum(slope**2 for slope in row) ** 0.5 for row in rows]
    assert found["quality/gradient_norm"] == pytest.approx(sum(norms) / len(norms))


@pytest.mark.parametrize("kind", ["uniform", "data", "root of data"])
@pytest.mark.parametrize("negatives", [1, 5])
def test_the_formula_is_what_estimates_are_off_by(kind: str, negatives: int):
    data = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    noise = {"uniform": np.ones(5), "data": data, "root of data": np.sqrt(data)}[kind]
    noise = noise / noise.sum()
    positives, replicates = 2000, 40_000
    random = np.random.default_rng(0)
    a = random.multinomial(positives, data, replicates)
    b = random.multinomial(negatives * positives, noise, replicates)
    assert a.min() > 0
    assert b.min() > 0
    truth = np.log(data / (negatives * noise))
    found = ((np.log(a / b) - truth) ** 2).mean(0)
    expected = nce_squared_error(torch.tensor(data), torch.tensor(noise), negatives, positives).numpy()
    assert positives * min(data.min(), (negatives * noise).min()) >= 100
    assert found == pytest.approx(expected, rel=0.05)


def test_noise_contrastive_error_is_relative_to_uniform_draws():
    quality = quality_of(positives=200, draws=400)
    found = quality.measure(stage_of(uniform(40)), Cursor())
    assert found["quality/nce_error"] == pytest.approx(1, abs=0.1)
    # Who never draws an answer knows less of it.
    masked = quality.measure(stage_of(uniform(40, mask_known=True)), Cursor())
    assert masked["quality/known_true"] == 0
    assert masked["quality/nce_error"] > 1.1


def test_noise_contrastive_error_by_hand():
    graph = graph_of([(0, 0, 1)], num_entities=10, num_relations=1)

    class Always(UniformSampler):
        """Three times the answer, or what is not the answer, of four draws."""

        def propose(self, batch: Batch, score: Any) -> Any:
            negatives = super().propose(batch, score)
            return replace(negatives, entity=torch.cat([batch.target.expand(1, 3), torch.tensor([[7]])], dim=1))

    sampler = Always(context_of(graph), num_negatives=4, mask_known=False, redraw_known=False)
    order = order_of(graph, sampler, batch_size=1)
    stage = one_epoch(player_of(model_of(site_of(graph))), sampler, order)
    quality = quality_of(graph, positives=1, draws=8)
    found = quality.measure(stage, Cursor())["quality/nce_error"]
    data, noise = 0.9 + 0.1 / 10, 0.5 * 0.75 + 0.5 / 10
    ratios = []
    for times in range(9):  # how often the uniform draws met the answer
        other = 0.5 * times / 8 + 0.5 / 10
        ratios.append((1 / data - 1 + 1 / (4 * noise) - 1 / 4) / (1 / data - 1 + 1 / (4 * other) - 1 / 4))
    assert min(abs(found - ratio) for ratio in ratios) < 1e-12


def test_a_run_that_is_measured_is_the_same_run(tmp_path):
    plain, watched = KBGANRun(tmp_path / "plain"), KBGANRun(tmp_path / "watched")
    watched.trainer.observers = [quality_of(watched.graph, positives=16, draws=4)]
    plain.fit()
    watched.fit()
    expected = plain.parameters()
    for name, value in watched.parameters().items():
        assert value.equal(expected[name]), name


def caching() -> NSCachingSampler:
    return NSCachingSampler(
        context_of(families()),
        num_negatives=2,
        cache_size=5,
        fresh_size=5,
        temperature=1.0,
        select="importance",
        refresh_epochs=1,
        max_caches=None,
        mask_known=False,
    )


def test_a_sampler_is_left_as_it_was():
    sampler = caching()
    before = sampler.caches.row.clone()
    quality_of().measure(stage_of(sampler), Cursor())
    assert sampler.caches.row.equal(before)


def test_every_proposal_is_of_the_state_that_the_sampler_has():
    quality, sampler = quality_of(draws=40), caching()
    stage = stage_of(sampler)
    batch = quality._batch(stage, Cursor())
    cached = sampler.caches.fetch(sampler.keys.of(batch))
    for row, entities in zip(cached.tolist(), quality._draw(stage, batch).entity.tolist(), strict=True):
        assert set(entities) <= set(row)


def test_all_of_a_small_train_set_is_measured():
    quality = quality_of(positives=10_000)
    assert sorted(quality.sample.tolist()) == sorted(families().train.tolist())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"positives": 0}, "quality.positives must be at least 1, got 0"),
        ({"draws": 0}, "quality.draws must be at least 1, got 0"),
        ({"data_smoothing": 0.0}, "quality.data_smoothing must be above 0 and at most 1, got 0.0"),
        ({"noise_smoothing": 1.5}, "quality.noise_smoothing must be above 0 and at most 1, got 1.5"),
    ],
)
def test_wrong_options_are_named(option: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        quality_of(**option)
