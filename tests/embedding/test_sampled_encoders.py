"""Encoders whose steps sample neighbours: equal to the whole graph where nothing is left to draw, exact weights."""

from itertools import combinations
from math import comb

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import embedding.encoder.sampled
from embedding.encoder.blocks import BlockMaker
from embedding.encoder.edges import TrainEdges
from embedding.encoder.facts import LeaveOut, TrainFacts
from embedding.encoder.incoming import Draw, IncomingEdges
from embedding.model import KGEModel
from graph.batch import Batch
from graph.partition import EntityPlacement
from kernels.row_gradient import RowGradient
from tests.encoders import KINDS, encoded, small_graph
from tests.worlds import batch_of, graph_of

GRAPH = small_graph()
FACTS = sorted({tuple(triple) for triple in GRAPH.train.tolist()})
STAR = graph_of([(0, 0, 1), (2, 0, 0), (0, 1, 3), (4, 1, 0), (5, 1, 0), (5, 0, 6), (6, 2, 7)], 8, 3)
"""Entity 0 has five edges."""
CPU = torch.device("cpu")


def step_of(*triples: tuple[int, int, int], first: int = 0, padding: int = 0) -> Batch:
    batch = batch_of(torch.tensor([*triples, *[FACTS[0]] * padding]), heads=1, first=first)
    if padding:
        batch.weight[-padding:] = 0.0
    return batch


def loss_of(model: KGEModel, batch: Batch, entity: Tensor) -> Tensor:
    """Uses rows by several look-ups, some of them without a gradient, and relation rows."""
    model.begin_step(batch)
    with torch.no_grad():
        asked = model.score_candidates(batch, entity)
    positive, negative = model.score(batch, entity)
    torch.testing.assert_close(negative.detach(), asked)
    anchor, relation, _ = model.query_rows(batch)
    return positive.sin().sum() + negative.square().sum() + (anchor * relation).cos().sum()


def gradients_of(model: KGEModel, gradient: RowGradient) -> list[Tensor]:
    rows = torch.zeros_like(model.learned_rows).index_copy_(0, gradient.row, gradient.value)
    return [rows, *[each.grad.clone() for each in model.dense_parameters() if each.grad is not None]]


BATCH, ENTITY = step_of(*FACTS[2:6], padding=2), torch.tensor([[1, 9], [4, 4], [0, 7], [2, 3], [1, 1], [1, 1]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reciprocal", [False, True])
def test_a_step_that_draws_all_edges_is_that_of_the_whole_graph(kind: str, reciprocal: bool):
    found = []
    for fanout in (None, [20, 20]):
        model = encoded(kind, GRAPH, dropout=0.3, residual=True, fanout=fanout, reciprocal=reciprocal)
        loss = loss_of(model, BATCH, ENTITY)
        loss.backward()
        gradient = gradients_of(model, model.take_gradient())
        model.encode()
        found.append([loss.detach(), *gradient, model.entity.weight, model.scorer.relation.detach()])
    assert len(found[0]) > 5
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind: str):
    model = encoded(kind, GRAPH, dropout=0.3, fanout=[2, 1])
    loss_of(model, BATCH, ENTITY).backward()
    found = gradients_of(model, model.take_gradient())
    values = [model.learned_rows, *[each.detach() for each in model.dense_parameters()]]
    generator = torch.Generator().manual_seed(1)
    for value, gradient in zip(values, found, strict=True):
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        before, losses = value.clone(), []
        for sign in (1, -1):
            value.copy_(before + sign * 1e-6 * direction)
            losses.append(float(loss_of(model, BATCH, ENTITY).detach()))
            # As the optimiser does: forgets the look-ups of this step.
            model.take_gradient()
        value.copy_(before)
        expected = (losses[0] - losses[1]) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=2e-6, abs=1e-7)


def test_only_rows_near_those_that_a_step_reads_get_a_gradient():
    model = encoded("compgcn mult", STAR, layers=1, fanout=[2])
    batch = step_of((6, 2, 7))
    model.begin_step(batch)
    positive, negative = model.score(batch, torch.tensor([[6]]))
    (positive.sum() + negative.sum()).backward()
    # The only edge into 7 is left out; 6 has another edge, from 5.
    reached = model.entity.entity[model.take_gradient().row]
    assert sorted(reached.tolist()) == [5, 6, 7]


def test_a_row_depends_on_the_step_and_not_on_the_other_rows_of_its_look_up():
    model = encoded("compgcn mult", GRAPH, dropout=0.3, fanout=[1, 1])
    model.begin_step(BATCH)
    together = model.entity(torch.arange(10)).detach()
    alone = torch.cat([model.entity(torch.tensor([entity])).detach() for entity in range(10)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    model = encoded("compgcn mult", GRAPH, fanout=[1, 1])
    rows = []
    for first in (0, 6, 0):
        model.begin_step(step_of(*FACTS[2:4], first=first))
        rows.append(model.entity(torch.arange(10)).detach())
    assert torch.equal(rows[0], rows[2])
    assert not torch.allclose(rows[0], rows[1])


def test_ranking_reads_all_edges_made_a_few_rows_at_a_time(monkeypatch):
    expected = encoded("attention", GRAPH).entity.weight
    monkeypatch.setattr(embedding.encoder.sampled, "_BLOCK_ROWS", 3)
    model = encoded("attention", GRAPH, fanout=[1, 1])
    torch.testing.assert_close(model.entity.weight, expected, rtol=1e-12, atol=1e-14)
    model.begin_step(BATCH)
    model.encode()
    torch.testing.assert_close(model.entity(torch.arange(10)), model.entity.gather_all(expected), rtol=1e-12, atol=0)


def test_a_step_has_no_rows_of_all_entities():
    model = encoded("linear", GRAPH, fanout=[1, 1])
    model.begin_step(BATCH)
    with pytest.raises(RuntimeError, match="a step with sampled neighbourhoods has no rows of all entities"):
        next(model.entity.blocks(4))
    model.encode()
    assert len(next(model.entity.blocks(4))[1]) == 4


def test_a_step_that_was_not_begun_is_refused():
    model = encoded("linear", GRAPH, fanout=[1, 1])
    model.score(BATCH, ENTITY)[0].sum().backward()
    with pytest.raises(RuntimeError, match="only in a step that began with begin_step"):
        model.take_gradient()


def test_drawn_edges_are_distinct_kept_ones_with_exact_weights():
    facts = TrainFacts(GRAPH.train, 10, 3, device=CPU, leave_out=LeaveOut.FACTS)
    placement = EntityPlacement.from_order(torch.arange(10))
    whole = TrainEdges(facts, placement, rank=0, world_size=1, dtype=torch.float64)
    full = whole.without(BATCH)
    of_edge = {
        (int(into), int(relation), int(whole.sources[source])): torch.stack(list(weights))
        for into, relation, source, *weights in zip(
            full.destination,
            full.relation,
            full.source,
            full.symmetric,
            full.per_relation,
            full.per_entity,
            strict=True,
        )
    }
    degree = torch.bincount(full.destination, minlength=10)
    entity = torch.tensor([5, 0, 9, 3, 2, 7])
    kept = IncomingEdges(facts).without(BATCH)
    for fanout in (1, 2, 3, 9):
        drawn = kept.into(entity, Draw.of("a model", BATCH, 0, fanout), torch.float64)
        taken = degree[entity].clamp(max=fanout)
        assert torch.equal(torch.bincount(drawn.destination, minlength=len(entity)), taken)
        place = list(zip(drawn.destination.tolist(), drawn.relation.tolist(), drawn.source.tolist(), strict=True))
        assert place == sorted(set(place))
        weights = torch.stack([drawn.symmetric, drawn.per_relation, drawn.per_entity], 1)
        for (into, relation, source), weight in zip(place, weights, strict=True):
            scale = degree[entity[into]] / taken[into]
            torch.testing.assert_close(weight, of_edge[int(entity[into]), relation, source] * scale)


def test_all_subsets_of_an_entitys_edges_are_drawn_equally_often():
    entity, degree = torch.arange(3000), torch.full((3000,), 6)
    subsets = Draw.of("a model", BATCH, 0, 3).subsets(entity, degree)
    counts = dict.fromkeys(combinations(range(6), 3), 0)
    for subset in subsets.tolist():
        counts[tuple(subset)] += 1
    assert len(counts) == comb(6, 3)
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_a_draw_is_another_one_in_each_layer_and_step():
    entity, degree = torch.arange(50), torch.full((50,), 1000)
    draws = [Draw.of("m", step_of(FACTS[0], first=first), layer, 5) for first in (0, 1) for layer in (0, 1)]
    found = [draw.subsets(entity, degree) for draw in draws]
    assert all(not torch.equal(one, other) for one, other in combinations(found, 2))


@pytest.mark.parametrize("fanout", [2, 20])
def test_blocks_are_those_of_dgl(fanout: int):
    dgl = pytest.importorskip("dgl")
    incoming = IncomingEdges(TrainFacts(GRAPH.train, 10, 3, device=CPU, leave_out=LeaveOut.FACTS))
    into = torch.arange(10).repeat_interleave(incoming.start.diff())
    graph = dgl.graph((incoming.source.long(), into), num_nodes=10)
    graph.edata["relation"] = incoming.relation.long()
    wanted = torch.tensor([7, 0, 5])
    maker = BlockMaker(10, dtype=torch.float64, device=CPU)
    blocks = maker.blocks(wanted, incoming.all(), [Draw.of("m", BATCH, layer, fanout) for layer in (0, 1)])
    assert torch.equal(blocks.hops[1].entity, wanted)
    for hop, entity in zip(reversed(blocks.hops), [blocks.hops[0].entity, blocks.entity], strict=True):
        edges = hop.edges
        if fanout == 20:  # nothing to choose
            frontier = dgl.sampling.sample_neighbors(graph, hop.entity, fanout)
        else:  # DGL draws by a state of its own, so it gets our draws
            frontier = dgl.graph((entity[edges.source], hop.entity[edges.destination]), num_nodes=10)
            frontier.edata["relation"] = edges.relation
        block = dgl.to_block(frontier, hop.entity)
        source, destination = block.edges()
        columns = (block.srcdata[dgl.NID][source], block.edata["relation"], destination)
        theirs = sorted(zip(*(each.tolist() for each in columns), strict=True))
        columns = (entity[edges.source], edges.relation, edges.destination)
        assert theirs == sorted(zip(*(each.tolist() for each in columns), strict=True))
        assert torch.equal(block.dstdata[dgl.NID], hop.entity)
        assert sorted(block.srcdata[dgl.NID].tolist()) == sorted(entity.tolist())
