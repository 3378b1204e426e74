import pytest
import torch

from embedding.model import KGEModel
from embedding.scoring.transd import TransD
from graph.errors import InputError
from graph.sampling import PositiveOrder
from tests.worlds import context_of, families, model_of, site_of, transe


@pytest.mark.parametrize(("chunk_size", "own"), [(1, False), (4, False), (4, True)])
def test_a_batchs_scores_equal_those_of_its_triples(chunk_size: int, own: bool) -> None:
    graph = families()
    model = model_of(site_of(graph))
    order = PositiveOrder(
        graph.train, context_of(graph).statistics.head_probability, batch_size=16, chunk_size=chunk_size, seed=0
    )
    batch = order.batch(2)
    entity = batch.integers("negatives", 5, graph.num_entities)
    if own:  # each positive has negatives of its own, though it shares a chunk
        entity = entity.repeat_interleave(chunk_size, 0)
    rows = model.entity.gather_all(model.entity.weight.detach())
    relation = model.scorer.relation_rows(batch.relation)
    positive, negative = model.score(batch, entity)
    torch.testing.assert_close(positive, model.scoring.score(rows[batch.head], relation, rows[batch.tail]))
    for i in range(16):
        for j in range(5):
            e = rows[entity[i * len(entity) // 16, j]]
            head, tail = rows[batch.head[i]], rows[batch.tail[i]]
            triple = (e, relation[i], tail) if i < batch.head_rows else (head, relation[i], e)
            torch.testing.assert_close(negative[i, j], model.scoring.score(*triple))
    torch.testing.assert_close(model.score_candidates(batch, entity), negative)


def test_max_norm_holds_for_each_part_of_a_row_from_the_start() -> None:
    model = model_of(site_of(families()), dim=6, scoring=lambda dim: TransD(dim, norm=1), max_norm=0.7)
    for part in (*model.entity.weight.split(6, dim=1), *model.scorer.relation.split(6, dim=1)):
        assert part.norm(dim=1).max() <= 0.7 + 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "generator.dim must be at least 1, got 0"),
        ({"max_norm": 0.0}, "generator.max_norm must be positive or null, got 0.0"),
        ({"init_range": -1.0}, "generator.init_range must be positive or null, got -1.0"),
    ],
)
def test_bad_options_are_named(options: dict[str, float], message: str) -> None:
    defaults = {"dim": 4, "max_norm": None, "init_range": None}
    with pytest.raises(InputError, match=message):
        KGEModel(site_of(families()), name="generator", scoring=transe, **(defaults | options))
