import re
import sys

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.partition import EntityPlacement, metis_placement, random_placement


def graph_of(train: Int64[Tensor, "T 3"], num_entities: int) -> KnowledgeGraph:
    return KnowledgeGraph(
        name="planted",
        entity_names=[f"entity_{entity}" for entity in range(num_entities)],
        relation_names=["near"],
        train=train,
        valid=torch.empty(0, 3, dtype=torch.int64),
        test=torch.empty(0, 3, dtype=torch.int64),
    )


def communities(num_entities: int, num_communities: int, *, num_triples: int, across: float) -> KnowledgeGraph:
    """Entity e belongs to community e mod num_communities; a share of the triples goes across."""
    generator = torch.Generator().manual_seed(5)
    members = num_entities // num_communities
    community = torch.randint(num_communities, (num_triples,), generator=generator)
    other = torch.randint(num_communities, (num_triples,), generator=generator)
    other = torch.where(torch.rand(num_triples, generator=generator) < across, other, community)
    head, tail = torch.randint(members, (2, num_triples), generator=generator)
    relation = torch.zeros_like(head)
    return graph_of(
        torch.stack([head * num_communities + community, relation, tail * num_communities + other], dim=1),
        num_entities,
    )


def share_cut(placement: EntityPlacement, graph: KnowledgeGraph, world_size: int) -> float:
    """Share of train triples whose ends are owned by two ranks."""
    owner = placement.row_of_entity // placement.block_size(world_size)
    return (owner[graph.train[:, 0]] != owner[graph.train[:, 2]]).double().mean().item()


@pytest.fixture(scope="module")
def two_communities() -> KnowledgeGraph:
    return communities(400, 2, num_triples=4000, across=0.05)


def test_random_placement_is_a_permutation_that_depends_on_the_seed_alone(two_communities: KnowledgeGraph) -> None:
    placement = random_placement(two_communities, seed=1)
    rows = torch.arange(400)
    assert torch.equal(placement.row_of_entity[placement.entity_of_row], rows)
    assert torch.equal(placement.entity_of_row[placement.row_of_entity], rows)
    assert not torch.equal(placement.row_of_entity, rows)
    assert torch.equal(placement.row_of_entity, random_placement(two_communities, seed=1).row_of_entity)
    assert not torch.equal(placement.row_of_entity, random_placement(two_communities, seed=2).row_of_entity)


@pytest.mark.parametrize("num_entities", [1, 2, 3, 10, 12])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_blocks_cover_all_rows_in_order_and_agree_with_the_owner(num_entities: int, world_size: int) -> None:
    placement = EntityPlacement.from_order(torch.arange(num_entities).flip(0))
    owned = []
    for rank in range(world_size):
        start, stop = placement.block(rank, world_size)
        assert 0 <= stop - start <= placement.block_size(world_size)
        owned.extend((row, rank) for row in range(start, stop))
    owner = torch.arange(num_entities) // placement.block_size(world_size)  # as the exchange of rows has it
    assert owned == list(enumerate(owner.tolist()))


def test_blocks_are_equal_but_for_the_last() -> None:
    placement = EntityPlacement.from_order(torch.arange(10))
    assert [placement.block(rank, 3) for rank in range(3)] == [(0, 4), (4, 8), (8, 10)]
    assert [placement.block(rank, 4) for rank in range(4)] == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_metis_keeps_planted_communities_on_one_rank(two_communities: KnowledgeGraph) -> None:
    pytest.importorskip("dgl")
    metis = metis_placement(two_communities, seed=1, num_parts=8)
    assert torch.equal(torch.sort(metis.entity_of_row).values, torch.arange(400))
    assert torch.equal(metis.row_of_entity[metis.entity_of_row], torch.arange(400))
    assert share_cut(random_placement(two_communities, seed=1), two_communities, 2) > 0.45
    assert share_cut(metis, two_communities, 2) < 0.05  # across=0.05, and half of those stay within


def test_one_metis_placement_serves_several_numbers_of_ranks() -> None:
    pytest.importorskip("dgl")
    graph = communities(512, 8, num_triples=8000, across=0.05)
    metis, random = metis_placement(graph, seed=1, num_parts=8), random_placement(graph, seed=1)
    for world_size in (2, 3, 4, 8):
        # With 3 ranks the block borders go through two communities of the eight.
        assert share_cut(metis, graph, world_size) < 0.3 * share_cut(random, graph, world_size), world_size


def test_metis_gives_the_same_permutation_twice_and_another_for_another_seed(two_communities: KnowledgeGraph) -> None:
    pytest.importorskip("dgl")
    first, second, other = (metis_placement(two_communities, seed=seed, num_parts=16) for seed in (1, 1, 2))
    assert torch.equal(first.row_of_entity, second.row_of_entity)
    assert not torch.equal(first.row_of_entity, other.row_of_entity)


def test_metis_leaves_stdout_to_the_command(two_communities: KnowledgeGraph, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dgl")
    metis_placement(two_communities, seed=1, num_parts=2)
    assert capfd.readouterr().out == ""


def test_metis_takes_self_loops_and_entities_without_triples() -> None:
    pytest.importorskip("dgl")
    train = torch.tensor([[0, 0, 0], [1, 0, 2], [1, 0, 2], [3, 0, 3]])
    placement = metis_placement(graph_of(train, 6), seed=0, num_parts=2)
    assert sorted(placement.entity_of_row.tolist()) == list(range(6))
    assert share_cut(placement, graph_of(train, 6), 2) == 0.0


def test_metis_survives_many_triples_between_the_same_entities() -> None:
    """Parallel edges made METIS write past its memory: graphs of many relations, such as UMLS, crashed or hung."""
    pytest.importorskip("dgl")
    number = torch.arange(60)
    head, tail = (side.flatten().repeat(5) for side in torch.meshgrid(number, number, indexing="ij"))
    train = torch.stack([head, torch.arange(5).repeat_interleave(3600), tail], dim=1)
    graph = KnowledgeGraph("dense", [str(n) for n in range(60)], list("abcde"), train, train[:0], train[:0])
    for seed in range(3):
        order = metis_placement(graph, seed, num_parts=8).entity_of_row
        assert torch.equal(order.sort().values, number)


@pytest.mark.parametrize("num_parts", [1, 7])
def test_number_of_parts_must_fit_the_graph(num_parts: int) -> None:
    graph = graph_of(torch.tensor([[0, 0, 1]]), 6)
    with pytest.raises(
        InputError, match=rf"^placement\.num_parts must be from 2 to the number of entities \(6\), got {num_parts}$"
    ):
        metis_placement(graph, seed=0, num_parts=num_parts)


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ((3, 11, 7), "install `dgl==1.1.3 packaging`"),
        ((3, 12, 1), "install `dgl==2.1.0 packaging`"),
        ((3, 13, 0), "it has no wheel for Python 3.13, so use Python 3.11 or 3.12"),
        ((3, 14, 0), "it has no wheel for Python 3.14, so use Python 3.11 or 3.12"),
    ],
)
def test_without_dgl_the_error_says_what_to_do(
    version: tuple[int, int, int], advice: str, two_communities: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)  # what Python does for a module that is known to be missing
    monkeypatch.setattr(sys, "version_info", version)
    expected = f"placement=metis needs DGL, which cannot be imported: {advice}, or use placement=random; "
    with pytest.raises(InputError, match=f"^{re.escape(expected)}"):
        metis_placement(two_communities, seed=1, num_parts=2)


def test_metis_giving_up_is_a_clear_error(two_communities: KnowledgeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    dgl = pytest.importorskip("dgl")
    monkeypatch.setattr(dgl, "metis_partition_assignment", lambda *_, **__: None)
    with pytest.raises(
        InputError, match=r"^placement=metis: METIS could not cut 400 entities into .*num_parts=2 parts"
    ):
        metis_placement(two_communities, seed=1, num_parts=2)


def test_an_exchange_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"^placement\.exchange must be counted, fixed or null, got 'sized'$"):
        random_placement(graph_of(torch.tensor([[0, 0, 1]]), 6), seed=0, exchange="sized")
