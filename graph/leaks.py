"""Facts of one split that another gives away: they make validation and test look better than they are."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class Leaks:
    """Counts of triples, each repetition once more."""

    valid_in_train: int
    test_in_train: int
    test_in_valid: int
    valid_reversed: int
    """Valid triples (h, r, t) with a triple (t, r', h) in train, r' another relation than r."""
    test_reversed: int

    @classmethod
    def of(
        cls, train: Int64[Tensor, "train 3"], valid: Int64[Tensor, "valid 3"], test: Int64[Tensor, "test 3"]
    ) -> "Leaks":
        """Counts them. Memory grows with valid, test and ids, not with train."""
        return cls(
            valid_in_train=count_repeated(valid, train),
            test_in_train=count_repeated(test, train),
            test_in_valid=count_repeated(test, valid),
            valid_reversed=count_reversed(valid, train),
            test_reversed=count_reversed(test, train),
        )


def count_repeated(triples: Int64[Tensor, "some 3"], known: Int64[Tensor, "known 3"]) -> int:
    """How many of `triples` are also among `known`. Memory grows with `triples` and ids, not with `known`."""
    if not len(triples) or not len(known):
        return 0
    num_relations = 1 + max(int(rows[:, 1].max()) for rows in (triples, known))
    num_entities = 1 + max(int(rows.max()) for rows in (triples, known))
    # A triple as one integer would overflow for 100 million entities, so (head, relation) is first replaced by its
    # place among the pairs of `triples`, which is small.
    pairs, place = torch.unique(triples[:, 0] * num_relations + triples[:, 1], return_inverse=True)
    keys = place * num_entities + triples[:, 2]
    wanted = torch.unique(keys)
    seen = torch.zeros(len(wanted), dtype=torch.bool)
    is_head = torch.zeros(num_entities, dtype=torch.bool)
    is_head[triples[:, 0]] = True
    for block in known.split(1 << 20):
        block = block[is_head[block[:, 0]]]  # a cheap test that spares most rows the searches
        pair = block[:, 0] * num_relations + block[:, 1]
        found = torch.searchsorted(pairs, pair).clamp_(max=len(pairs) - 1)
        same = pairs[found] == pair
        key = found[same] * num_entities + block[same, 2]
        found = torch.searchsorted(wanted, key).clamp_(max=len(wanted) - 1)
        seen[found[wanted[found] == key]] = True
    return int(seen[torch.searchsorted(wanted, keys)].sum())


def count_reversed(triples: Int64[Tensor, "some 3"], known: Int64[Tensor, "known 3"]) -> int:
    """How many (h, r, t) of `triples` have a (t, r', h) among `known` with another relation r'."""
    if not len(triples) or not len(known):
        return 0
    num_entities = 1 + max(int(rows.max()) for rows in (triples, known))
    head, relation, tail = triples.unbind(1)
    wanted, place = torch.unique(tail * num_entities + head, return_inverse=True)
    # Of the relations that a pair has in `known`, the least and the greatest say whether one differs from r.
    least = torch.full((len(wanted),), torch.iinfo(torch.int64).max)
    most = torch.full((len(wanted),), -1)
    is_tail = torch.zeros(num_entities, dtype=torch.bool)
    is_tail[tail] = True
    for block in known.split(1 << 20):
        block = block[is_tail[block[:, 0]]]
        pair = block[:, 0] * num_entities + block[:, 2]
        found = torch.searchsorted(wanted, pair).clamp_(max=len(wanted) - 1)
        same = wanted[found] == pair
        least.scatter_reduce_(0, found[same], block[same, 1], "amin")
        most.scatter_reduce_(0, found[same], block[same, 1], "amax")
    is_known = most[place] >= 0
    return int((is_known & ((least[place] != relation) | (most[place] != relation))).sum())


def count_duplicates(triples: Int64[Tensor, "some 3"]) -> int:
    """How many rows are a repetition of an earlier row."""
    if not len(triples):
        return 0
    head, relation, tail = triples.numpy().T
    pair = head * (relation.max() + 1) + relation
    if int(pair.max() + 1) * int(tail.max() + 1) >= 1 << 63:
        pair = np.unique(pair, return_inverse=True)[1]  # smaller numbers, at several times the time
    key = pair * (tail.max() + 1) + tail
    key.sort()
    return int((key[1:] == key[:-1]).sum())
