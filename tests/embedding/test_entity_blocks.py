"""What is made of passes over the whole table: closest entities, preferred ones, clusters."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import embedding.closest
import embedding.entity_blocks
from embedding.closest import closest_entities
from embedding.clusters import greedy_path, k_means
from embedding.model import KGEModel
from embedding.preferred import preferred_entities
from tests.ranks import run_on_ranks
from tests.worlds import batch_of, context_of, distmult, families, model_of, set_entities, site_of
from trainer.runtime import Runtime

COUNT = 7


@contextmanager
def small_blocks() -> Iterator[None]:
    """128 entities in three blocks, of which the last is short."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (embedding.closest, embedding.entity_blocks):
            patch.setattr(module, "BLOCK_ROWS", 50)
        yield


def model(runtime: Runtime | None = None) -> KGEModel:
    return model_of(site_of(families(), runtime, dtype=torch.float32), scoring=distmult, dim=5)


def rows(trained: KGEModel) -> Tensor:
    return trained.entity.gather_all(trained.entity.weight).double()


def test_closest_entities_are_those_of_least_distance_or_largest_product():
    trained = model()
    row = rows(trained)
    closeness = {"l2": -torch.cdist(row, row), "dot": row @ row.T}
    with small_blocks():
        for metric, value in closeness.items():
            expected = value.fill_diagonal_(-torch.inf).topk(COUNT, dim=1).indices
            assert closest_entities(trained, COUNT, metric).equal(expected)


def test_preferred_entities_are_the_best_that_are_neither_target_nor_left_out():
    trained, known = model(), context_of(families()).known
    batch = batch_of(families().train[:60], heads=25)
    everyone = torch.arange(families().num_entities)[None]
    score = trained.score_candidates(batch, everyone).detach().double()
    for leave_out in (None, known):
        value = -(
            score - score.gather(1, batch.target[:, None]) - 0.1
        ).abs()  # wants scores a little above the target's
        if leave_out is not None:
            value = value.masked_fill(known.contains(batch, everyone), -torch.inf)
        expected = value.scatter(1, batch.target[:, None], -torch.inf).topk(COUNT, dim=1).indices
        with small_blocks():
            found = preferred_entities(trained, batch, COUNT, lambda s, p: -(s - p - 0.1).abs(), leave_out)
        assert found.equal(expected)


def test_left_out_entities_come_after_all_others_and_the_target_never():
    trained, known = model(), context_of(families()).known
    batch = batch_of(families().train[:30], heads=10)
    everyone = families().num_entities - 1
    found = preferred_entities(trained, batch, everyone, lambda s, _: s, known)
    assert not (found == batch.target[:, None]).any()
    assert all(len(set(row)) == everyone for row in found.tolist())
    facts = known.contains(batch, found).int()
    assert facts.any()
    assert (facts.diff(dim=1) >= 0).all()


def test_a_rank_without_queries_prefers_nothing():
    batch = batch_of(families().train[:4], heads=2).chunks(0, 0)
    assert preferred_entities(model(), batch, COUNT, lambda s, _: s, context_of(families()).known).shape == (0, COUNT)


def test_k_means_finds_clusters_that_lie_apart():
    trained = model()
    group = torch.arange(128) % 4
    noise = torch.randn((128, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float32) * 0.1
    set_entities(trained, 10 * torch.eye(5, dtype=torch.float32)[group] + noise)
    for key in range(20):
        cluster, centroid = k_means(trained, 4, 10, key)
        if len(cluster.unique()) == 4:  # the start may have put two centroids into one
            break
    for number in range(4):
        members = rows(trained)[cluster == number]
        assert (group[cluster == number].unique()).numel() == 1
        assert torch.allclose(centroid[number], members.mean(0))


def test_k_means_lowers_the_distance_with_each_iteration():
    def distance(iterations: int) -> float:
        cluster, centroid = k_means(trained, 9, iterations, 0)
        return float((rows(trained) - centroid[cluster]).square().sum())

    trained = model()
    with small_blocks():
        distances = [distance(iterations) for iterations in range(1, 6)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(distances))
    assert distances[-1] < 0.95 * distances[0]


def test_a_path_goes_to_the_nearest_that_is_left():
    centroid = torch.tensor([[5.0], [0.0], [7.0], [4.0], [-9.0]], dtype=torch.float64)
    assert greedy_path(centroid).tolist() == [0, 3, 2, 1, 4]


def all_of(rank: int, world_size: int) -> list[Tensor]:
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    trained = model(runtime)
    whole = batch_of(families().train[:31], heads=10)
    batch = runtime.share(whole)
    with small_blocks():
        preferred = preferred_entities(trained, batch, COUNT, lambda s, _: s, context_of(families()).known)
        return [
            closest_entities(trained, COUNT, "l2"),
            *k_means(trained, 9, 5, 0),
            torch.stack([batch.head, batch.tail], dim=1),
            preferred,
        ]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_find_what_one_finds(world_size: int):
    *alone, triples, preferred = all_of(0, 1)
    expected = {tuple(triple): row for triple, row in zip(triples.tolist(), preferred.tolist(), strict=True)}
    found = {}
    for *same, mine, of_mine in run_on_ranks(world_size, all_of):
        for one, other in zip(alone, same, strict=True):
            assert one.equal(other)
        found |= {tuple(triple): row for triple, row in zip(mine.tolist(), of_mine.tolist(), strict=True)}
    assert found == expected
