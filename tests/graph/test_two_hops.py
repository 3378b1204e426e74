import pytest
import torch
from scipy.stats import chisquare

import graph.two_hops
from graph.two_hops import TwoHops
from tests.worlds import families, graph_of

CPU = torch.device("cpu")
# A path 0 - 1 - 2 - 3, a loop at 3, one edge 1 - 2 twice, and 4 alone.
PATH = graph_of([(0, 0, 1), (2, 0, 1), (1, 1, 2), (2, 0, 3), (3, 0, 3)], num_entities=5, num_relations=2)


def neighbours(train: list[list[int]], entity: int) -> set[int]:
    return {t for h, _, t in train if h == entity} | {h for h, _, t in train if t == entity} - {entity}


@pytest.mark.parametrize("at_once", [50, 1 << 22])
def test_contains_what_a_search_of_two_levels_finds(at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph.two_hops, "_NEIGHBOURS_AT_ONCE", at_once)
    for world in (PATH, families()):
        train, everyone = world.train.tolist(), range(min(world.num_entities, 20))
        near = TwoHops(world.train, world.num_entities, CPU)
        entity = torch.arange(world.num_entities).expand(len(everyone), -1)
        contained = near.contains(torch.tensor(everyone), entity)
        for anchor in everyone:
            one = neighbours(train, anchor)
            within = one | {far for entity in one for far in neighbours(train, entity)}
            assert set(contained[anchor].nonzero()[:, 0].tolist()) == within - {anchor}


def test_no_queries_are_no_answer():
    near = TwoHops(PATH.train, 5, CPU)
    assert near.contains(torch.arange(0), torch.empty((0, 3), dtype=torch.int64)).shape == (0, 3)


def test_a_step_goes_to_each_neighbour_alike():
    near = TwoHops(families().train, families().num_entities, CPU)
    start = int(near.degree.argmax())
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end = near.step(torch.full((20_000,), start), uniform)
    around = sorted(neighbours(families().train.tolist(), start) - {start})
    count = torch.bincount(end, minlength=families().num_entities)
    assert int(count[around].sum()) == 20_000
    assert chisquare(count[around].numpy()).pvalue > 1e-3


def test_who_has_no_neighbours_stays():
    near = TwoHops(PATH.train, 5, CPU)
    assert near.step(torch.tensor([4, 0]), torch.tensor([0.9, 0.9], dtype=torch.float64)).tolist() == [4, 1]
