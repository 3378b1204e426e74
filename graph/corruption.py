"""False triples for triple classification, one for each true one, when there is no file of them."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from graph.counter_random import random_uniform, stream
from graph.entity_sets import EntitySets
from graph.known import KnownFacts
from graph.statistics import RelationStatistics

_ROUNDS = 100
"""Draws of each kind before a triple is given up."""


def corrupt_each(
    triples: Int64[Tensor, "T 3"], statistics: RelationStatistics, known: KnownFacts, seed: int
) -> tuple[Int64[Tensor, "K 3"], int]:
    """A false triple for each true one, as in Socher et al. (Reasoning with neural tensor networks, NIPS 2013).

    The head or the tail, each with probability 1/2, is replaced by an entity drawn uniformly from those that the
    relation has in this place in train. It is drawn again, with its side, while it gives a known fact. After 100 draws,
    entities of the whole graph are drawn instead, 100 times again; a triple for which these are all known facts gets
    none.

    Args:
        triples: on the CPU, as all arguments.
        known: the facts that are no false triples.
        seed: the draws are a function of it and of a triple's place.

    Returns:
        The false triples, in the order of the true ones, and how many true ones have none.
    """
    num_entities, num_relations = len(statistics.entity_degree), len(statistics.relation_triples)
    offset = torch.cat([statistics.domain_offset, len(statistics.domain_entity) + statistics.range_offset[1:]])
    places = EntitySets(offset, torch.cat([statistics.domain_entity, statistics.range_entity]))
    false = triples.clone()
    left = torch.arange(len(triples))
    for number in range(2 * _ROUNDS):
        if not len(left):
            break
        is_head = random_uniform(stream("corrupted side of a test triple", seed, number), left) < 0.5
        uniform = random_uniform(stream("corruption of a test triple", seed, number), left)
        if number < _ROUNDS:
            drawn = places.draw(triples[left, 1] + torch.where(is_head, 0, num_relations), uniform[:, None])[:, 0]
        else:
            drawn = (uniform * num_entities).long()
        corrupted = triples[left].clone()
        corrupted[:, 0] = torch.where(is_head, drawn, corrupted[:, 0])
        corrupted[:, 2] = torch.where(is_head, corrupted[:, 2], drawn)
        good = (drawn >= 0) & ~are_known(corrupted, known)
        false[left[good]] = corrupted[good]
        left = left[~good]
    has_one = torch.ones(len(triples), dtype=torch.bool)
    has_one[left] = False
    return false[has_one], len(left)


def are_known(triples: Int64[Tensor, "T 3"], known: KnownFacts) -> Bool[Tensor, " T"]:
    """Which triples are known facts; a negative id is in none."""
    return known.tails.contains(triples[:, 0], triples[:, 1], triples[:, 2:])[:, 0]
