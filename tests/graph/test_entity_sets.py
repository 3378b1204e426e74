import pytest
import torch
from scipy.stats import chisquare

import graph.entity_sets
from graph.entity_sets import EntitySets

SETS = [[1, 4, 5, 9, 10], [], [0], list(range(0, 64, 2)), []]


def sets_of(members: list[list[int]]) -> EntitySets:
    size = torch.tensor([len(each) for each in members])
    entity = torch.tensor([each for one in members for each in one], dtype=torch.int32)
    return EntitySets(torch.cat([torch.zeros(1, dtype=torch.int64), size.cumsum(0)]), entity)


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "plain":
        monkeypatch.setattr(graph.entity_sets, "usable", lambda _: False)


def test_contains_what_was_put_in():
    number = torch.arange(len(SETS))
    contained = sets_of(SETS).contains(number, torch.arange(-1, 70).expand(len(SETS), -1))
    for row, members in enumerate(SETS):
        assert [place - 1 for place in contained[row].nonzero()[:, 0].tolist()] == members


def test_draws_each_member_alike_and_nothing_from_an_empty_set():
    uniform = torch.rand((len(SETS), 20_000), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = sets_of(SETS).draw(torch.arange(len(SETS)), uniform)
    for row, members in enumerate(SETS):
        if not members:
            assert (drawn[row] == -1).all()
            continue
        count = torch.bincount(drawn[row], minlength=64)
        assert int(count[members].sum()) == 20_000
        assert len(members) == 1 or chisquare(count[members].numpy()).pvalue > 1e-3


def test_sets_that_are_all_empty():
    sets = sets_of([[], []])
    assert sets.draw(torch.tensor([1]), torch.tensor([[0.5]], dtype=torch.float64)).tolist() == [[-1]]
    assert not sets.contains(torch.tensor([0]), torch.tensor([[0]])).any()
