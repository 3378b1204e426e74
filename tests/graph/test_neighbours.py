import pytest
import torch

from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.neighbours import Neighbours
from tests.worlds import families, graph_of

CPU = torch.device("cpu")
# A path 0 - 1 - 2 - 3, a loop at 3, one edge 1 - 2 twice, and 4 alone.
PATH = graph_of([(0, 0, 1), (2, 0, 1), (1, 1, 2), (2, 0, 3), (3, 0, 3)], num_entities=5, num_relations=2)
# A ring of 1,100: more anchors than are looked at together, twice over.
RING = graph_of([(each, 0, (each + 1) % 1100) for each in range(1100)], num_entities=1100, num_relations=1)
LOOPS = graph_of([(0, 0, 0)], num_entities=2, num_relations=1)


def within(graph: KnowledgeGraph, anchor: int, hops: int) -> set[int]:
    """By a search from the anchor, level by level."""
    reached = {anchor}
    for _ in range(hops):
        reached |= {t for h, _, t in graph.train.tolist() if h in reached} | {
            h for h, _, t in graph.train.tolist() if t in reached
        }
    return reached - {anchor}


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize(
    ("graph", "anchors"), [(PATH, range(5)), (families(), range(0, 128, 9)), (RING, [0, 511, 512, 1099]), (LOOPS, [0])]
)
def test_sets_are_what_a_search_finds(graph: KnowledgeGraph, anchors: range | list[int], hops: int):
    sets = Neighbours(graph.train, graph.num_entities, CPU).within(hops, memory_mb=1)
    assert len(sets.offset) == graph.num_entities + 1
    assert int(sets.offset[-1]) == len(sets.entity)
    for anchor in anchors:
        members = sets.entity[int(sets.offset[anchor]) : int(sets.offset[anchor + 1])].tolist()
        assert members == sorted(within(graph, anchor, hops))


def test_sets_that_are_too_large_are_an_error():
    # All pairs of 600 entities are 1.4 MB, the first 512 anchors' alone are 1.2 MB.
    star = graph_of([(0, 0, each) for each in range(600)], num_entities=600, num_relations=1)
    with pytest.raises(InputError, match=r"generator.memory_mb=1: .* generator.hops=2 .* use generator.pool=walks"):
        Neighbours(star.train, 600, CPU).within(2, memory_mb=1)
