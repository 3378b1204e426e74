"""Candidates of a slot for estimated ranks: the likeliest entities, and a random sample of all others."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from graph.counter_random import random_uniform, stream
from graph.errors import InputError
from graph.slots import Slots


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of all queries that ask for the entities of one slot. No entity is in both parts."""

    sure: Int64[Tensor, " a"]
    """Entities that each stand for themselves, ascending."""
    drawn: Int64[Tensor, " b"]
    """A uniform sample of the others, ascending: it stands for all of them."""
    others: int
    """The number of entities that `drawn` stands for."""


@dataclass(frozen=True)
class SlotCandidates:
    """Chooses the candidates of each slot, as a function of the slot and the seed alone.

    Args:
        likely: the most entities of a slot that are chosen because they likely belong there; see `Slots.likely`.
        drawn: how often one of the others is drawn at random. An entity that is drawn twice counts once.
        seed: of these draws.

    Raises:
        InputError: `likely` is negative, or `drawn` is below 1.
    """

    slots: Slots
    likely: int
    drawn: int
    seed: int

    def __post_init__(self) -> None:
        check_numbers(self.likely, self.drawn)

    def of(self, slot: int) -> Candidates:
        """The candidates of a slot; see `Slots` for its number."""
        sure = self.slots.likely(slot, self.likely).sort().values
        others = self.slots.num_entities - len(sure)
        if self.drawn >= others:
            number = torch.arange(others)
        else:
            uniform = random_uniform(stream("candidates of a slot", self.seed, slot), torch.arange(self.drawn))
            number = torch.unique((uniform * others).long())
        # The other entities are numbered in order of their ids: number i is entity i plus the sure ones below it.
        below = torch.searchsorted(sure - torch.arange(len(sure)), number, right=True)
        return Candidates(sure, number + below, others)


def check_numbers(likely: int, drawn: int) -> None:
    """Raises InputError unless these numbers give `SlotCandidates`: without draws, nothing stands for the others."""
    for key, value, least in (("likely", likely, 0), ("drawn", drawn, 1)):
        if value < least:
            raise InputError(f"{key} must be at least {least}, got {value}")
