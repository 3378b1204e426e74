"""The people and places behind the synthetic graph: who is born to whom, marries whom, lives where, does what."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from graph.counter_random import random_uniform, stream

_GENERATIONS = 5
_NEWCOMERS = 0.08  # share of a generation without parents in the graph
_SINGLES = 0.1
_ELSEWHERE = 0.1  # share of people who look for a spouse away from the place where they were born


@dataclass
class FamilyWorld:
    """`num_people` people over five generations and the places they live in. Equal arguments give an equal world.

    People, places, regions and so on are numbered from 0 within their kind. Lists indexed by a person: mother, father,
    spouse (-1: nobody), birthplace, home, surname, profession. Indexed by a place: region, borders (a symmetric set of
    places), known_for (up to three professions). Indexed by a region: language, capital.
    """

    num_people: int
    seed: int
    mother: list[int] = field(init=False, default_factory=list)
    father: list[int] = field(init=False, default_factory=list)
    spouse: list[int] = field(init=False, default_factory=list)
    is_male: list[bool] = field(init=False, default_factory=list)
    birthplace: list[int] = field(init=False, default_factory=list)
    home: list[int] = field(init=False, default_factory=list)
    surname: list[int] = field(init=False, default_factory=list)
    profession: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.num_places = max(8, self.num_people // 40)
        self.num_regions = max(3, self.num_places // 8)
        self.num_languages = max(2, self.num_regions // 2)
        self.num_professions = max(8, self.num_people // 80)
        self.num_surnames = max(8, self.num_people // 25)
        self._found_places()
        couples: list[tuple[int, int]] = []
        for generation in range(_GENERATIONS):
            start = generation * self.num_people // _GENERATIONS
            people = range(start, (generation + 1) * self.num_people // _GENERATIONS)
            self._bear(people, couples)
            couples = self._marry(people)
            self._settle(people)

    def _draws(self, purpose: str, ids: Iterable[int]) -> Iterator[float]:
        """A number in (0, 1) for each id: a function of (seed, purpose, id)."""
        return iter(random_uniform(stream(f"family graph: {purpose}", self.seed), torch.tensor(list(ids))).tolist())

    def _found_places(self) -> None:
        places, regions = range(self.num_places), range(self.num_regions)
        self.region = [place * self.num_regions // self.num_places for place in places]
        self.language = [region % self.num_languages for region in regions]
        first = [self.region.index(region) for region in regions]
        self.capital = [
            first[region] + int(draw * self.region.count(region))
            for region, draw in zip(regions, self._draws("capital", regions), strict=True)
        ]
        # Places form a ring, so that those of a region are near each other. Each also has a road to a random place.
        self.borders: list[set[int]] = [
            {(place - 1) % self.num_places, (place + 1) % self.num_places} for place in places
        ]
        for place, draw in zip(places, self._draws("road", places), strict=True):
            other = (place + 2 + int(draw * (self.num_places - 3))) % self.num_places
            self.borders[place].add(other)
            self.borders[other].add(place)
        # Each place draws three professions, some of which may be the same.
        trades = self._draws("known_for", range(3 * self.num_places))
        self.known_for = [sorted({int(next(trades) * self.num_professions) for _ in range(3)}) for _ in places]

    def _bear(self, people: range, couples: list[tuple[int, int]]) -> None:
        newcomer, origin, line = (self._draws(purpose, people) for purpose in ("newcomer", "origin", "line"))
        for person in people:
            new, where, which = next(newcomer), next(origin), next(line)
            self.is_male.append(person % 2 == 0)
            if new < _NEWCOMERS or not couples:
                self.mother.append(-1)
                self.father.append(-1)
                self.birthplace.append(int(where**1.5 * self.num_places))  # some places are larger
                self.surname.append(int(which**1.5 * self.num_surnames))
            else:
                mother, father = couples[int(which * len(couples))]
                self.mother.append(mother)
                self.father.append(father)
                self.birthplace.append(self.home[mother])
                self.surname.append(self.surname[father])

    def _marry(self, people: range) -> list[tuple[int, int]]:
        """Forms the couples (mother, father) of a generation; most are from the same place."""
        away, where, turn, single = (self._draws(purpose, people) for purpose in ("away", "where", "turn", "single"))
        meets_at: dict[int, int] = {}
        turn_of: dict[int, float] = {}
        women, men_at = [], defaultdict(list)
        for person in people:
            moves, place, turn_of[person], stays_single = next(away), next(where), next(turn), next(single) < _SINGLES
            meets_at[person] = int(place * self.num_places) if moves < _ELSEWHERE else self.birthplace[person]
            if not stays_single:
                (men_at[meets_at[person]] if self.is_male[person] else women).append(person)
        women.sort(key=turn_of.__getitem__)
        for men in men_at.values():
            men.sort(key=turn_of.__getitem__)

        self.spouse.extend(-1 for _ in people)
        couples = [couple for woman in women if (couple := self._wed(woman, men_at[meets_at[woman]]))]
        men_left = sorted((man for men in men_at.values() for man in men), key=turn_of.__getitem__)
        women_left = [woman for woman in women if self.spouse[woman] == -1]
        return couples + [couple for woman in women_left if (couple := self._wed(woman, men_left))]

    def _wed(self, woman: int, men: list[int]) -> tuple[int, int] | None:
        """Marries the woman to the first man in the list who is not her sibling and removes him; None if all are."""
        for index, man in enumerate(men):
            if self.mother[man] == -1 or self.mother[man] != self.mother[woman]:
                del men[index]
                self.spouse[woman], self.spouse[man] = man, woman
                return woman, man
        return None

    def _settle(self, people: range) -> None:
        """Chooses a home for each person or couple, then a profession for each person."""
        side, stay, road = (self._draws(purpose, people) for purpose in ("side", "stay", "road taken"))
        self.home.extend(-1 for _ in people)
        for person in people:
            of_spouse, stays, way = next(side) < 0.5, next(stay), next(road)
            spouse = self.spouse[person]
            if self.home[person] != -1:  # the spouse has chosen
                continue
            home = self.birthplace[spouse if spouse != -1 and of_spouse else person]
            if stays > 0.7:
                near = sorted(self.borders[home])
                home = near[int(way * len(near))] if stays < 0.95 else int(way * self.num_places)
            self.home[person] = home
            if spouse != -1:
                self.home[spouse] = home

        why, which = self._draws("why a profession", people), self._draws("profession", people)
        for person in people:
            reason, pick = next(why), next(which)
            if reason < 0.45 and self.mother[person] != -1:
                choice = [self.profession[self.mother[person]], self.profession[self.father[person]]]
            elif reason < 0.85:
                choice = self.known_for[self.home[person]]
            else:
                choice = range(self.num_professions)
            self.profession.append(choice[int(pick * len(choice))])
