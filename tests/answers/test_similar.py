"""The nearest rows are those of a plain sort of all rows."""

import pytest
import torch
from torch import Tensor

from answers.similar import similar_entities, similar_relations
from embedding.scoring.transd import TransD
from tests.worlds import families, model_of, one_rank, set_entities, site_of


def nearness(rows: Tensor, number: int, by: str) -> Tensor:
    row = rows[number]
    if by == "cosine":
        return torch.nn.functional.cosine_similarity(rows, row[None], dim=1)
    return -(rows - row).norm(dim=1) if by == "l2" else rows @ row


@pytest.mark.parametrize("by", ["cosine", "l2", "dot"])
def test_are_the_nearest_of_all_rows(by: str):
    model = model_of(site_of(families()), scoring=lambda dim: TransD(dim, norm=2), reciprocal=True)
    rows = model.entity.gather_all(model.entity.weight)
    assert rows.shape[1] == 8  # both parts: the vector and its transfer vector
    near = nearness(rows, 7, by)
    near[7] = -torch.inf
    found = similar_entities(model, 7, count=12, by=by, runtime=one_rank())
    assert found.id.equal(near.topk(12).indices)
    assert torch.allclose(found.nearness, near.topk(12).values)

    near = nearness(model.scorer.relation.detach()[: families().num_relations], 3, by)
    near[3] = -torch.inf
    found = similar_relations(model, 3, count=5, by=by)
    assert found.id.equal(near.topk(5).indices)
    assert torch.allclose(found.nearness, near.topk(5).values)


def test_of_equally_near_ones_the_lower_id_comes_first():
    model = model_of(site_of(families()))
    set_entities(model, torch.ones(families().num_entities, 4, dtype=torch.float64))
    assert similar_entities(model, 2, count=4, by="cosine", runtime=one_rank()).id.tolist() == [0, 1, 3, 4]
    assert len(similar_entities(model, 2, count=999, by="l2", runtime=one_rank()).id) == 127


def test_a_row_of_zeros_is_at_a_right_angle_to_all():
    model = model_of(site_of(families()))
    rows = torch.ones(families().num_entities, 4, dtype=torch.float64)
    rows[5] = 0
    set_entities(model, rows)
    assert similar_entities(model, 5, count=3, by="cosine", runtime=one_rank()).nearness.tolist() == [0, 0, 0]
