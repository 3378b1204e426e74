"""Splits triples into train, valid and test, so that nothing in train gives valid and test away."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.counter_random import random_bits, stream
from graph.errors import InputError


def split_triples(
    triples: Int64[Tensor, "T 3"],
    num_entities: int,
    num_relations: int,
    *,
    ratio: Sequence[float],
    seed: int,
    covered: bool,
    together: bool,
) -> list[Int64[Tensor, "_ 3"]]:
    """Train, valid and test of distinct triples; each keeps the order of the rows.

    The triples are drawn in groups. With `together` a group is all triples between two entities, in both directions and
    of all relations: (h, r, t) in test is then no inverse, mirror image or other relation of a triple in train. The
    order of groups is a hash of the seed and of their ids, so the result does not depend on the order of rows.

    With `covered`, some groups stay in train so that it has every entity and every relation. Of the others, the first
    are test, the next valid, until these have their shares of the T triples, as nearly as whole groups allow.

    Args:
        ratio: the shares of train, valid and test, which sum to 1.

    Raises:
        InputError: the shares are not allowed, or so many triples can't be left out of train.
    """
    check_ratio(ratio)
    if together:
        low, high = torch.minimum(triples[:, 0], triples[:, 2]), torch.maximum(triples[:, 0], triples[:, 2])
        key = low * num_entities + high
    else:
        key = torch.arange(len(triples))
    # The hash stands for the group: two groups of one hash, of which there are hardly any, are just not torn apart.
    hashed, order = random_bits(stream("split", seed), key).sort()
    del key
    starts = torch.ones(len(hashed), dtype=torch.bool)
    torch.ne(hashed[1:], hashed[:-1], out=starts[1:])
    group = torch.empty_like(order)
    group[order] = starts.cumsum(0) - 1
    del hashed, order
    size = torch.bincount(group)
    stays = _groups_of_all_names(triples, group, len(size), num_entities, num_relations) if covered else size < 0
    wanted = [round(share * len(triples)) for share in (ratio[2], ratio[1])]
    if sum(wanted) > int(size[~stays].sum()):
        most = int(size[~stays].sum()) / len(triples)
        raise InputError(
            f"ratio: valid and test may have at most {most:.3f} of these triples together, or train would lack an "
            f"entity or a relation, got {ratio[1] + ratio[2]:.3f}; covered=false allows that"
        )
    # The middle of a group decides, so that a share is missed by half of a group at most.
    middle = torch.where(stays, 0, size).cumsum(0).double() - size / 2
    split = (~stays & (middle < sum(wanted))).int() + (~stays & (middle < wanted[0])).int()
    chosen = split[group]
    return [triples[chosen == number] for number in range(3)]


def _groups_of_all_names(
    triples: Int64[Tensor, "T 3"], group: Int64[Tensor, " T"], num_groups: int, num_entities: int, num_relations: int
) -> Bool[Tensor, " G"]:
    """Which of G groups to keep so that every entity and every relation of the triples is in one of them.

    First the groups that have an entity or a relation alone; then, for each one that these lack, its first group.
    """
    names = [triples[:, 0], triples[:, 2], triples[:, 1] + num_entities]
    first = torch.full((num_entities + num_relations,), num_groups)
    last = torch.full_like(first, -1)
    for name in names:
        first.scatter_reduce_(0, name, group, "amin")
        last.scatter_reduce_(0, name, group, "amax")
    kept = torch.zeros(num_groups, dtype=torch.bool)
    kept[first[first == last]] = True
    lacks = last >= 0
    for name in names:
        lacks[name[kept[group]]] = False
    kept[first[lacks]] = True
    return kept


def check_ratio(ratio: Sequence[float]) -> None:
    """Raises InputError unless these are shares of train, valid and test."""
    numbers = len(ratio) == 3 and all(0 <= share <= 1 for share in ratio)
    if not numbers or ratio[0] == 0 or abs(sum(ratio) - 1) > 1e-9:
        raise InputError(
            "ratio must be the shares of train, valid and test, from 0 to 1 and with the sum 1, train's above 0, "
            f"got {list(ratio)}"
        )
