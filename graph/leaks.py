"""Counts valid and test triples that another split repeats or reverses, which makes results look too good."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Int32, Int64
from torch import Tensor


@dataclass(frozen=True)
class Leaks:
    """Counts of leaked triples. A triple that its split has twice counts twice."""

    valid_in_train: int
    test_in_train: int
    test_in_valid: int
    valid_reversed: int
    """Valid triples (h, r, t) for which train has (t, r', h) with another relation r'."""
    test_reversed: int

    @classmethod
    def of(
        cls, train: Int32[Tensor, "train 3"], valid: Int64[Tensor, "valid 3"], test: Int64[Tensor, "test 3"]
    ) -> "Leaks":
        """Counts the leaks. Memory grows with valid, test and the number of ids, not with train."""
        return cls(
            valid_in_train=count_repeated(valid, train),
            test_in_train=count_repeated(test, train),
            test_in_valid=count_repeated(test, valid),
            valid_reversed=count_reversed(valid, train),
            test_reversed=count_reversed(test, train),
        )


def count_repeated(triples: Int64[Tensor, "some 3"], known: Int[Tensor, "known 3"]) -> int:
    """The number of `triples` that are in `known`."""
    return int(are_repeated(triples, known).sum())


def are_repeated(triples: Int64[Tensor, "some 3"], known: Int[Tensor, "known 3"]) -> Bool[Tensor, " some"]:
    """Which of `triples` are in `known`. Memory grows with `triples` and the number of ids, not `known`."""
    if not len(triples) or not len(known):
        return torch.zeros(len(triples), dtype=torch.bool)
    num_relations = 1 + max(int(rows[:, 1].max()) for rows in (triples, known))
    num_entities = 1 + max(int(rows.max()) for rows in (triples, known))
    # One integer for a whole triple would overflow with 100 million entities. So (head, relation) is first replaced by
    # its position among the distinct pairs of `triples`, which is small.
    pairs, place = torch.unique(triples[:, 0] * num_relations + triples[:, 1], return_inverse=True)
    keys = place * num_entities + triples[:, 2]
    wanted = torch.unique(keys)
    seen = torch.zeros(len(wanted), dtype=torch.bool)
    is_head = torch.zeros(num_entities, dtype=torch.bool)
    is_head[triples[:, 0]] = True
    for block in known.split(1 << 20):
        block = block.long()
        block = block[is_head[block[:, 0]]]  # a cheap test that drops most rows before the searches
        pair = block[:, 0] * num_relations + block[:, 1]
        found = torch.searchsorted(pairs, pair).clamp_(max=len(pairs) - 1)
        same = pairs[found] == pair
        key = found[same] * num_entities + block[same, 2]
        found = torch.searchsorted(wanted, key).clamp_(max=len(wanted) - 1)
        seen[found[wanted[found] == key]] = True
    return seen[torch.searchsorted(wanted, keys)]


def count_reversed(triples: Int64[Tensor, "some 3"], known: Int[Tensor, "known 3"]) -> int:
    """The number of (h, r, t) in `triples` for which `known` has (t, r', h) with another relation r'."""
    if not len(triples) or not len(known):
        return 0
    num_entities = 1 + max(int(rows.max()) for rows in (triples, known))
    head, relation, tail = triples.unbind(1)
    wanted, place = torch.unique(tail * num_entities + head, return_inverse=True)
    # A pair has another relation than r in `known` if the least or the greatest of its relations differs from r.
    least = torch.full((len(wanted),), torch.iinfo(torch.int64).max)
    most = torch.full((len(wanted),), -1)
    is_tail = torch.zeros(num_entities, dtype=torch.bool)
    is_tail[tail] = True
    for block in known.split(1 << 20):
        block = block.long()
        block = block[is_tail[block[:, 0]]]
        pair = block[:, 0] * num_entities + block[:, 2]
        found = torch.searchsorted(wanted, pair).clamp_(max=len(wanted) - 1)
        same = wanted[found] == pair
        least.scatter_reduce_(0, found[same], block[same, 1], "amin")
        most.scatter_reduce_(0, found[same], block[same, 1], "amax")
    is_known = most[place] >= 0
    return int((is_known & ((least[place] != relation) | (most[place] != relation))).sum())
