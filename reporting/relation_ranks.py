"""Ranking metrics by relation and by class of relations."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.statistics import Cardinality, RelationStatistics
from reporting.html_table import Cell, Head, Table
from trainer.evaluate import TripleRanks

FEWEST = 10
"""Triples of a relation that is called hard: the MRR of fewer says little."""
_MOST_HARDEST = 10
_SIDES = ("both", "head", "tail")


@dataclass(frozen=True)
class Group:
    """The metrics of the ranked triples of a relation, or of a class of relations."""

    name: str
    kind: str
    """The class of the relation, 1-1, 1-N, N-1 or N-N; empty for a class."""
    train: int
    """Triples in train."""
    ranked: int
    """Triples that were ranked, each by its head and by its tail."""
    mrr: dict[str, float]
    """By side: "both", "head", "tail"."""
    hits1: dict[str, float]
    hits10: dict[str, float]


def by_relation(
    ranks: TripleRanks, triples: Int64[Tensor, "T 3"], names: Sequence[str], statistics: RelationStatistics
) -> list[Group]:
    """The relations that have ranked triples, those with most first."""
    number = triples[:, 1]
    counts = torch.bincount(number, minlength=len(names))
    order = [each for each in counts.argsort(descending=True, stable=True).tolist() if counts[each]]
    train = statistics.relation_triples.tolist()
    sums = _Sums(ranks, number, len(names))
    return [
        sums.group(each, str(names[each]), str(statistics.cardinality[each]), train[each], int(counts[each]))
        for each in order
    ]


def by_class(ranks: TripleRanks, triples: Int64[Tensor, "T 3"], statistics: RelationStatistics) -> list[Group]:
    """The classes 1-1, 1-N, N-1 and N-N that have ranked triples (Bordes et al., NIPS 2013)."""
    classes = list(Cardinality)
    of_relation = torch.tensor([classes.index(each) for each in statistics.cardinality])
    number = of_relation[triples[:, 1]]
    counts = torch.bincount(number, minlength=len(classes)).tolist()
    train = torch.zeros(len(classes), dtype=torch.int64).index_add(0, of_relation, statistics.relation_triples)
    sums = _Sums(ranks, number, len(classes))
    return [
        sums.group(each, str(name), "", int(train[each]), counts[each])
        for each, name in enumerate(classes)
        if counts[each]
    ]


class _Sums:
    """Sums of reciprocal ranks and of hits over the triples of each group."""

    def __init__(self, ranks: TripleRanks, number: Int64[Tensor, " T"], groups: int) -> None:
        rank = {side: ranks.realistic(side) for side in ("head", "tail")}

        def summed(value: Tensor) -> Tensor:
            return torch.zeros(groups, dtype=torch.float64).index_add(0, number, value.double())

        self.sums = {
            metric: {side: summed(value(rank[side])) for side in rank}
            for metric, value in (
                ("mrr", lambda rank: 1 / rank),
                ("hits1", lambda rank: rank <= 1),
                ("hits10", lambda rank: rank <= 10),
            )
        }

    def group(self, each: int, name: str, kind: str, train: int, count: int) -> Group:
        """The means of group number `each`."""
        metrics = {}
        for metric, sides in self.sums.items():
            head, tail = (float(sides[side][each]) / count for side in ("head", "tail"))
            metrics[metric] = {"both": (head + tail) / 2, "head": head, "tail": tail}
        return Group(name, kind, train, count, **metrics)


def hardest(groups: Sequence[Group]) -> list[Group]:
    """The relations of lowest MRR, of those with at least `FEWEST` ranked triples."""
    return sorted((group for group in groups if group.ranked >= FEWEST), key=lambda group: group.mrr["both"])[
        :_MOST_HARDEST
    ]


def as_table(name: str, groups: Sequence[Group], *, first: str = "relation") -> Table:
    """A table of relations or of classes."""
    kinds = [Head("class", "1-1, 1-N, N-1 or N-N, by train; Bordes et al. (2013)", is_text=True)]
    heads = [Head(first, is_text=True), *(kinds if any(group.kind for group in groups) else [])]
    heads += [Head("train", "Triples in train.", group="triples")]
    heads += [Head("ranked", "Triples that were ranked, by head and by tail.", group="triples")]
    columns = (("MRR", "mrr"), ("Hits@1", "hits1"), ("Hits@10", "hits10"))
    heads += [Head(side, group=title) for title, _ in columns for side in _SIDES]
    rows = [
        [
            Cell.of_text(group.name),
            *([Cell.of_text(group.kind)] if group.kind else []),
            Cell.of_count(group.train),
            Cell.of_count(group.ranked),
            *(Cell.of_number(getattr(group, key)[side]) for _, key in columns for side in _SIDES),
        ]
        for group in groups
    ]
    return Table(name, heads, rows)
