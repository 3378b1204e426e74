"""NBFNet against loops over edges and sums over paths, its gradients against finite differences, and its edges."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from discriminator.loss.softmax import Softmax
from embedding.model import KGEModel
from embedding.paths import nbfnet
from embedding.whole_table import log_sum_exp
from generator.uniform import UniformSampler
from graph.errors import InputError
from kernels.paths import Nodes, OutEdges, nodes_of, reach, send
from tests.encoders import small_graph
from tests.kernels.arrays import without_kernels
from tests.ranks import run_on_ranks
from tests.worlds import (
    adam,
    batch_of,
    context_of,
    families,
    graph_of,
    lazy_adam,
    nbfnet_of,
    order_of,
    player_of,
    site_of,
)
from trainer.runtime import Runtime

GRAPH = small_graph()
FACTS = sorted({tuple(triple) for triple in GRAPH.train.tolist()})
COUNT = GRAPH.num_relations
QUERIES = torch.tensor([(0, 0), (9, 2), (4, 4), (0, 0), (6, 5)])
"""Entity and relation of some queries; from 3 on relations are inverse ones. Entity 9 has no edge."""


def edges_of(facts: list[tuple[int, ...]]) -> list[tuple[int, int, int]]:
    return [edge for h, r, t in facts for edge in ((h, r, t), (t, r + COUNT, h))]


def plain_scores(model: KGEModel, facts: list[tuple[int, ...]], layers: int = 2) -> Tensor:
    """The scores of `QUERIES` with all entities, vector by vector and edge by edge."""
    named = {name: value.detach() for name, value in model.scoring.named_parameters()}
    dim, found = model.scoring.dim, []
    most_edges = model.scoring.most_edges  # pyright: ignore[reportAttributeAccessIssue]
    degree = [sum(source == entity for source, _, _ in edges_of(FACTS)) for entity in range(10)]
    for head, relation in QUERIES.tolist():
        q = model.scorer.relation.detach()[relation]
        of_query = q @ named["of_query"] + named["bias"]

        def score(state: Tensor, of_query: Tensor = of_query) -> Tensor:
            return (state @ named["of_state"] + of_query).relu() @ named["to_score"][:, 0]

        state = {head: q}
        for layer in range(layers):
            sent, edges = {}, 0
            for entity in sorted(state, key=lambda each: (-(1024 * score(state[each])).round(), each)):
                if most_edges is None:
                    sent[entity] = state[entity]
                elif edges < most_edges:
                    sent[entity] = state[entity] * score(state[entity]).sigmoid()
                    edges += degree[entity]
            weight = (q @ named[f"of_relation.{layer}"] + named[f"relation_bias.{layer}"]).view(-1, dim)
            message = {entity: q if entity == head else torch.zeros_like(q) for entity in state}
            for source, r, target in edges_of(facts):
                if source in sent:
                    message[target] = message.get(target, torch.zeros_like(q)) + sent[source] * weight[r]
            for entity, each in message.items():
                old = state.get(entity, torch.zeros_like(q))
                new = torch.cat([old, each]) @ named[f"update.{layer}"] + named[f"update_bias.{layer}"]
                state[entity] = old + layer_norm(new, (dim,)).relu()
        found.append(torch.stack([score(state.get(entity, torch.zeros_like(q))) for entity in range(10)]))
    return torch.stack(found)


def scores(model: KGEModel) -> Tensor:
    entity, relation = QUERIES.unbind(1)
    rows = model.entity(entity), model.scorer.relation_rows(relation)
    return model.scoring.tail_query(*rows).detach()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("most_edges", [None, 1, 4, 9])
def test_scores_equal_a_loop_over_edges(most_edges: int | None):
    model = nbfnet_of(site_of(GRAPH), layers=3, most_edges=most_edges)
    expected = plain_scores(model, FACTS, layers=3)
    for other in {None, 10**6} - {most_edges}:  # all with and without sigmoids
        assert not expected.equal(plain_scores(nbfnet_of(site_of(GRAPH), layers=3, most_edges=other), FACTS, layers=3))
    torch.testing.assert_close(scores(model), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(without_kernels(scores, model), expected, rtol=1e-10, atol=1e-12)
    assert expected.std(1)[[0, 2, 4]].min() > 1e-3
    assert expected[1, :9].unique().numel() == 1


def test_messages_alone_are_the_sum_over_paths_of_products_of_weights():
    model = nbfnet_of(site_of(GRAPH))
    edges = model.scoring.edges  # pyright: ignore[reportAttributeAccessIssue]
    heads = torch.tensor([0, 7])
    nodes, group = nodes_of(edges, heads), torch.tensor([1, 0])
    weight = torch.randn(2, 2 * COUNT, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = torch.ones(2, 4, dtype=torch.float64)
    for _ in range(3):
        sources = nodes
        nodes = reach(edges, nodes, sources)
        state = send(edges, sources, group, state, weight, len(nodes.query))
    found = torch.zeros(2, 10, 4, dtype=torch.float64).index_put((nodes.query.long(), nodes.entity.long()), state)
    expected = torch.zeros_like(found)
    paths = [[edge] for edge in edges_of(FACTS)]
    for _ in range(2):
        paths = [[*path, edge] for path in paths for edge in edges_of(FACTS) if edge[0] == path[-1][2]]
    for query, head in enumerate(heads.tolist()):
        for path in paths:
            if path[0][0] == head:
                product = torch.stack([weight[group[query], relation] for _, relation, _ in path]).prod(0)
                expected[query, path[-1][2]] += product
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("most_edges", [None, 4])
def test_a_step_leaves_out_its_positives_and_their_inverses_and_nothing_else(most_edges: int | None):
    model = nbfnet_of(site_of(GRAPH), most_edges=most_edges)
    left_out = [(6, 2, 7), (3, 1, 4), (0, 0, 2), (5, 2, 5)]  # (6, 2, 7) is in train twice
    batch = batch_of(torch.tensor([*left_out, FACTS[0]]), heads=2)
    batch.weight[-1] = 0.0  # padding
    model.begin_step(batch)
    kept = [fact for fact in FACTS if fact not in left_out]
    torch.testing.assert_close(scores(model), plain_scores(model, kept), rtol=1e-10, atol=1e-12)
    model.encode()
    torch.testing.assert_close(scores(model), plain_scores(model, FACTS), rtol=1e-10, atol=1e-12)


def test_a_step_leaves_out_all_edges_between_the_entities_of_a_positive():
    model = nbfnet_of(site_of(GRAPH), leave_out="pairs")
    positives = [(3, 1, 4), (0, 0, 2), (5, 2, 5)]
    also = [(4, 1, 3), (0, 1, 2), (2, 1, 0)]
    kept = [fact for fact in FACTS if fact not in positives + also]
    assert len(kept) == len(FACTS) - 6
    batch = batch_of(torch.tensor([*positives, FACTS[3]]), heads=2)
    batch.weight[-1] = 0.0  # padding
    model.begin_step(batch)
    torch.testing.assert_close(scores(model), plain_scores(model, kept), rtol=1e-10, atol=1e-12)
    model.encode()
    torch.testing.assert_close(scores(model), plain_scores(model, FACTS), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("compiled")
def test_states_are_made_again_for_gradients_where_they_need_too_much_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nbfnet, "_BLOCK_NODES", 20)
    model, calls = nbfnet_of(site_of(GRAPH)), []
    score = nbfnet.NBFNet._score
    monkeypatch.setattr(nbfnet.NBFNet, "_score", lambda *given: calls.append(1) or score(*given))

    def times() -> int:
        calls.clear()
        model.score(batch_of(torch.tensor(FACTS[2:7]), heads=2), torch.arange(10).view(5, 2))[0].sum().backward()
        return len(calls)

    blocks = times()
    assert blocks > 1
    monkeypatch.setattr(nbfnet, "_KEPT_BYTES", 0)
    assert times() == 2 * blocks
    monkeypatch.setattr(nbfnet, "_KEPT_BYTES", 1 << 30)
    assert without_kernels(times) == 2 * blocks


def test_states_that_are_made_again_go_on_from_the_same_entities(monkeypatch: pytest.MonkeyPatch):
    """A GPU may round sums otherwise in the second pass; the choice must not follow."""

    def gradients() -> list[Tensor]:
        model = nbfnet_of(site_of(GRAPH), layers=3, most_edges=4)
        model.score(batch_of(torch.tensor(FACTS[2:7]), heads=2), torch.arange(10).view(5, 2))[0].sum().backward()
        return [parameter.grad for parameter in model.dense_parameters() if parameter.grad is not None]

    monkeypatch.setattr(nbfnet, "_BLOCK_NODES", 20)
    expected = gradients()
    monkeypatch.setattr(nbfnet, "_KEPT_BYTES", 0)
    seen, choose = set(), nbfnet.choose

    def other_the_second_time(edges: OutEdges, nodes: Nodes, priority: Tensor, most_edges: int) -> Tensor:
        key = str((nodes.query.tolist(), nodes.entity.tolist(), priority.tolist()))
        again = key in seen
        seen.add(key)
        return choose(edges, nodes, -priority if again else priority, most_edges)

    monkeypatch.setattr(nbfnet, "choose", other_the_second_time)
    torch.testing.assert_close(gradients(), expected, rtol=1e-12, atol=1e-13)


def test_a_query_has_the_same_float32_scores_whatever_is_asked_beside_it():
    graph = families()
    model = nbfnet_of(site_of(graph, dtype=torch.float32), dim=8, layers=3, most_edges=60)
    asked = graph.train[:64].long()

    def scores_of(part: Tensor) -> Tensor:
        rows = model.entity(part[:, 0]), model.scorer.relation_rows(part[:, 1])
        return model.scoring.tail_query(*rows).detach()  # pyright: ignore[reportAttributeAccessIssue]

    together = scores_of(asked)
    for size in (1, 2, 3):
        torch.testing.assert_close(scores_of(asked[:size]), together[:size], rtol=1e-5, atol=1e-6)


def test_compiled_gradients_of_float32_are_those_of_plain_torch():
    def gradients() -> list[Tensor]:
        model = nbfnet_of(site_of(GRAPH, dtype=torch.float32))
        model.begin_step(batch := batch_of(torch.tensor(FACTS[2:7]), heads=2))
        positive, negative = model.score(batch, torch.arange(10).view(5, 2))
        (positive.sin().sum() + negative.square().sum()).backward()
        return [parameter.grad for parameter in model.dense_parameters() if parameter.grad is not None]

    found = gradients()
    assert {each.dtype for each in found} == {torch.float64}
    torch.testing.assert_close(found, without_kernels(gradients), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [lambda call, *given: call(*given), without_kernels], ids=["compiled", "plain"])
@pytest.mark.parametrize("name", ["update.0", "update_bias.0", "of_state", "to_score"])
@pytest.mark.parametrize("most_edges", [None, 4])
def test_a_parameter_that_is_nan_makes_scores_that_are(way: Callable, name: str, most_edges: int | None):
    model = nbfnet_of(site_of(GRAPH), most_edges=most_edges)
    model.scoring.get_parameter(name).detach().view(-1)[0] = torch.nan
    assert way(scores, model)[0].isnan().any()


@pytest.mark.parametrize(
    ("nodes", "kept"), [(1 << 17, 0), (20, 1 << 30), (20, 0)], ids=["one block", "blocks", "blocks made again"]
)
@pytest.mark.parametrize("way", [lambda call: call(), without_kernels], ids=["compiled", "plain"])
@pytest.mark.parametrize("most_edges", [None, 4], ids=["all", "chosen"])
def test_gradients_equal_finite_differences(
    nodes: int, kept: int, way: Callable, most_edges: int | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nbfnet, "_BLOCK_NODES", nodes)
    monkeypatch.setattr(nbfnet, "_KEPT_BYTES", kept)
    model = nbfnet_of(site_of(GRAPH), most_edges=most_edges, relation_dropout=0.3)
    batch, entity = batch_of(torch.tensor(FACTS[2:7]), heads=2), torch.arange(10).view(5, 2)

    def loss() -> Tensor:
        model.begin_step(batch)
        positive, negative = model.score(batch, entity)
        return positive.sin().sum() + negative.square().sum() + log_sum_exp(model, batch).sum()

    way(lambda: loss().backward())
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_dense_parameters().items():
        value, found = parameter.detach(), parameter.grad
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        before, losses = value.clone(), []
        for sign in (1, -1):
            value.copy_(before + sign * 1e-6 * direction)
            losses.append(float(loss().detach()))
        value.copy_(before)
        assert found is not None
        expected = (losses[0] - losses[1]) / 2e-6
        assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6), name
    assert not len(model.take_gradient().row)


def steps(rank: int, world_size: int, most_edges: int | None = None) -> tuple[list[float], dict[str, Tensor], Tensor]:
    """Losses of some steps of both sides, what they changed, and scores with shared and own candidates."""
    runtime, graph = Runtime(rank, world_size, torch.device("cpu")), families()
    model = nbfnet_of(site_of(graph, runtime), most_edges=most_edges, relation_dropout=0.1)
    player, context = player_of(model, Softmax(), lazy_adam), context_of(graph, model.site)
    sampler = UniformSampler(context, num_negatives=8, mask_known=True, redraw_known=False)
    order, losses = order_of(graph, sampler, batch_size=10, chunk_size=2, sides="both"), []
    for number in range(4):
        whole = order.batch(number)
        player.begin_step(whole)
        batch = runtime.share(whole if number else whole.chunks(0, 2))
        verdict = player.judge(batch, sampler.propose(batch, partial(player.score_candidates, batch)))
        losses.append(float(runtime.add(verdict.loss.detach().clone()[None])))
        player.learn(verdict)
    model.encode()
    batch = batch_of(graph.train[:6], heads=1, chunk_size=2)
    shared = model.score_candidates(batch, torch.arange(12).view(3, 4)).detach()
    rows = model.entity.gather_all(model.entity.weight)[:, 0]
    assert torch.equal(rows, torch.arange(graph.num_entities, dtype=rows.dtype))
    return losses, {key: value.detach().clone() for key, value in model.dense_tensors().items()}, shared


@pytest.mark.parametrize(("world_size", "most_edges"), [(2, None), (3, None), (3, 20)])
def test_several_ranks_learn_as_one(world_size: int, most_edges: int | None):
    losses, values, scored = steps(0, 1, most_edges)
    assert losses[0] != losses[-1]
    for found in run_on_ranks(world_size, partial(steps, most_edges=most_edges)):
        assert found[0] == pytest.approx(losses, rel=1e-11)
        torch.testing.assert_close(found[1:], (values, scored), rtol=1e-8, atol=1e-11)


def test_numbers_of_entities_stay_whatever_the_optimiser_does():
    model = nbfnet_of(site_of(GRAPH))
    optimizer = adam(model)
    optimizer.weight_decay = 0.5  # pyright: ignore[reportAttributeAccessIssue]
    batch = batch_of(torch.tensor(FACTS[:4]))
    model.begin_step(batch)
    model.score(batch, torch.arange(8).view(4, 2))[0].sum().backward()
    before = model.scorer.relation.detach().clone()
    optimizer.step()
    assert torch.equal(model.entity.gather_all(model.entity.weight)[:, 0], torch.arange(10.0, dtype=torch.float64))
    assert not torch.equal(model.scorer.relation, before)


def test_more_entities_than_a_type_can_number_are_refused():
    many = graph_of([(0, 0, 2049)], 2050, 1)
    with pytest.raises(InputError, match="dtype=float16 can number 2,048 entities, got 2,050; take dtype=float64"):
        nbfnet_of(site_of(many, dtype=torch.float16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, r"discriminator.scoring.layers must be at least 1, got 0"),
        ({"most_edges": 0}, r"discriminator.scoring.most_edges must be null or at least 1, got 0"),
        ({"leave_out": "all"}, r"discriminator.scoring.leave_out must be one of facts, pairs, got all"),
        ({"reciprocal": False}, r"discriminator.reciprocal must be true, got False"),
        ({"max_norm": 1.0}, r"discriminator.max_norm must be null: this model has no entity vectors, got 1.0"),
        ({"entity_dropout": 0.1}, r"discriminator.entity_dropout must be 0.0: .* got 0.1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        nbfnet_of(site_of(GRAPH), **options)
