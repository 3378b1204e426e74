"""Splits: each triple once, train has every name, and no pair of entities is torn apart."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from graph.errors import InputError
from graph.splitting import split_triples

OPTIONS: dict[str, Any] = {"ratio": [0.7, 0.1, 0.2], "seed": 0, "covered": True, "together": True}


def some_triples(count: int = 900, entities: int = 60, relations: int = 5) -> Tensor:
    """Distinct triples; many entities have few of them, many pairs have several."""
    generator = torch.Generator().manual_seed(1)
    head, tail = ((torch.rand(count, generator=generator) ** 2 * entities).long() for _ in range(2))
    relation = torch.randint(relations, (count,), generator=generator)
    rare = torch.arange(60, 90)  # each in one triple
    return torch.cat(
        [torch.stack([head, relation, tail], 1).unique(dim=0), torch.stack([rare, rare % 5, rare - 60], 1)]
    )


def split(triples: Tensor, **options: Any) -> list[set[tuple[int, ...]]]:
    parts = split_triples(triples, 90, 5, **(OPTIONS | options))
    assert sorted(map(tuple, torch.cat(parts).tolist())) == sorted(map(tuple, triples.tolist()))
    return [set(map(tuple, part.tolist())) for part in parts]


def pairs(part: set[tuple[int, ...]]) -> set[frozenset[int]]:
    return {frozenset((head, tail)) for head, _, tail in part}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("covered", [True, False])
def test_shares_pairs_and_names(covered: bool, together: bool):
    triples = some_triples()
    train, valid, test = split(triples, covered=covered, together=together)
    largest = max(Counter(frozenset((h, t)) for h, _, t in triples.tolist()).values()) if together else 1
    assert largest > 2 or not together
    for part, share in ((train, 0.7), (valid, 0.1), (test, 0.2)):
        assert abs(len(part) - share * len(triples)) <= largest + 1
    torn = pairs(train) & (pairs(valid) | pairs(test)) | pairs(valid) & pairs(test)
    assert bool(torn) == (not together)
    names = {("entity", each) for h, _, t in train for each in (h, t)} | {("relation", r) for _, r, _ in train}
    lacking = {("entity", each) for h, _, t in valid | test for each in (h, t) if ("entity", each) not in names} | {
        ("relation", r) for _, r, _ in valid | test if ("relation", r) not in names
    }
    assert bool(lacking) == (not covered)


def test_is_a_function_of_seed_and_triples_alone():
    triples = some_triples()
    shuffled = triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(9))]
    assert split(triples) == split(shuffled) != split(triples, seed=1)


def test_without_a_share_there_is_no_split():
    train, valid, test = split(some_triples(), ratio=[0.8, 0.2, 0.0])
    assert (len(test), len(valid)) != (0, 0) == (len(test), 0)
    assert train


def test_train_that_would_lack_a_name_is_refused():
    chain = torch.tensor([[each, 0, each + 1] for each in range(59)])
    with pytest.raises(
        InputError, match=r"^ratio: valid and test may have at most 0.\d+ of these .* got 0.900; covered=false allows"
    ):
        split(chain, ratio=[0.1, 0.4, 0.5])
    assert len(split(chain, ratio=[0.1, 0.4, 0.5], covered=False)[0]) == 5


@pytest.mark.parametrize("ratio", [[0.5, 0.5], [0.8, 0.1, 0.2], [0.0, 0.5, 0.5], [1.2, -0.1, -0.1]])
def test_shares_that_are_none_are_refused(ratio: list[float]):
    with pytest.raises(InputError, match=r"^ratio must be the shares of train, valid and test, .* got \["):
        split(some_triples(), ratio=ratio)
