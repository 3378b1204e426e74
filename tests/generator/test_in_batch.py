from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from generator.in_batch import InBatchSampler
from graph.bucket_file import sorted_by_shards
from graph.errors import InputError
from graph.partition import random_placement
from graph.sampling import PositiveOrder
from tests.worlds import batch_of, context_of, families, no_opinion, order_of

TRAIN = families().train
NUM = families().num_entities


def sampler_of(**options: Any) -> InBatchSampler:
    return InBatchSampler(context_of(families()), **({"num_uniform": 5, "slots": "corrupted"} | options))


def test_negatives_are_the_entities_of_the_chunk_in_the_corrupted_place():
    batch = batch_of(TRAIN[:12], heads=2, chunk_size=4)
    entity = sampler_of().propose(batch, no_opinion).entity
    assert entity.shape == (3, 9)
    assert entity[0, :4].tolist() == TRAIN[0:4, 0].tolist()
    assert entity[1, :4].tolist() == TRAIN[4:8, 0].tolist()
    assert entity[2, :4].tolist() == TRAIN[8:12, 2].tolist()


def test_or_of_both_places():
    batch = batch_of(TRAIN[:12], heads=2, chunk_size=4)
    entity = sampler_of(slots="both", num_uniform=0).propose(batch, no_opinion).entity
    assert entity.shape == (3, 8)
    for chunk in range(3):
        rows = TRAIN[4 * chunk : 4 * chunk + 4]
        assert sorted(entity[chunk].tolist()) == sorted([*rows[:, 0].tolist(), *rows[:, 2].tolist()])


def test_the_target_itself_is_masked():
    batch = batch_of(TRAIN[:12], heads=2, chunk_size=4)
    negatives = sampler_of().propose(batch, no_opinion)
    assert negatives.known is not None
    for row in range(12):
        assert negatives.known[row, row % 4]
    assert negatives.known.equal(context_of(families()).known.contains(batch, negatives.entity))
    assert not negatives.known.all()


def test_what_fills_a_chunk_up_is_no_negative():
    batch = batch_of(TRAIN[:1].repeat(200, 1), chunk_size=200)
    batch = replace(batch, weight=(torch.arange(200) < 3).double())
    entity = sampler_of(num_uniform=0).propose(batch, no_opinion).entity[0]
    assert entity[:3].tolist() == [int(TRAIN[0, 2])] * 3
    assert len(entity[3:].unique()) > 50


def test_other_entities_are_uniform():
    batch = batch_of(TRAIN[:1600], heads=200, chunk_size=4)
    entity = sampler_of(num_uniform=30).propose(batch, no_opinion).entity[:, 4:]
    assert chisquare(torch.bincount(entity.flatten(), minlength=NUM).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("slots", ["corrupted", "both"])
def test_the_proposal_is_what_a_positive_meets_over_many_epochs(slots: str):
    sampler = sampler_of(slots=slots, num_uniform=2)
    order = order_of(families(), sampler, batch_size=320, chunk_size=32)
    met = torch.zeros((2, NUM), dtype=torch.float64)
    for step in range(30 * order.steps_per_epoch):
        batch = order.batch(step)
        entity = sampler.propose(batch, no_opinion).entity
        full = batch.weight.view(-1, 32).all(1)  # the last chunks of an epoch are not
        of_heads = torch.arange(len(full)) < batch.head_chunks
        for side, chunks in enumerate((full & of_heads, full & ~of_heads)):
            met[side] += torch.bincount(entity[chunks].flatten(), minlength=NUM)
    batch = batch_of(TRAIN[:64], heads=1, chunk_size=32)
    probability = sampler.log_q(batch, torch.arange(NUM).expand(2, -1)).exp()
    assert torch.allclose(probability.sum(1), torch.ones(64, dtype=torch.float64))
    for side in range(2):
        expected = met[side].sum() * probability[side * 32]
        # A chunk has one entity more a place than a positive has others: 32 to 31.
        assert ((met[side] - expected).abs() <= 5 * expected.sqrt() + 0.03 * expected).all()


def test_of_a_table_on_disk_all_negatives_are_in_memory(tmp_path):
    graph = families()
    placement = random_placement(graph, 3, storage="disk", shards=6, resident=3, folder="not used")
    train, states = sorted_by_shards(graph.train, placement, tmp_path, "sorted")
    half = torch.full((graph.num_relations,), 0.5, dtype=torch.float64)
    order = PositiveOrder(train, half, batch_size=64, chunk_size=8, sides="one", seed=1, states=states)
    sampler = sampler_of(slots="both")
    filled_up = 0
    for step in range(order.steps_per_epoch):
        batch = order.batch(step)
        assert batch.resident is not None
        inside = batch.resident.entity(torch.arange(batch.resident.count))
        entity = sampler.propose(batch, no_opinion).entity
        assert torch.isin(entity, inside).all()
        filled_up += int((batch.weight == 0).sum())
        every = inside.expand(len(batch.chunk), -1)
        total = sampler.log_q(batch, every).exp().sum(1)
        assert torch.allclose(total, torch.ones_like(total))
    assert filled_up > 0


def test_chunks_of_one_are_an_error():
    with pytest.raises(InputError, match=r"trainer.chunk_size is 1: set it to at least 2"):
        sampler_of().propose(batch_of(TRAIN[:4]), no_opinion)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_uniform": -1}, r"generator.num_uniform must be at least 0, got -1"),
        ({"slots": "all"}, r"generator.slots must be one of corrupted, both, got 'all'"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        sampler_of(**options)
