"""Adaptive stochastic weight averaging (Demir, Sharma and Ngonga Ngomo, ASWA, arXiv 2406.19092, 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedding.model import KGEModel
from graph.errors import InputError
from trainer.averaging.average import Average, Rank
from trainer.averaging.weights import Weights
from trainer.validation import Ranking


@dataclass(frozen=True)
class _Kept:
    """An average and its ranking. `weights` and `ranking` are None if there is no average yet."""

    models: int = 0
    """How many models it is the mean of."""
    weights: Weights | None = None
    ranking: Ranking | None = None


class Adaptive(Average):
    """The mean of the model at some validations, those at which it made the mean rank better.

    Each validation ranks the model, and the mean of the model and of those that the average has (the look-ahead):

    - if the model ranks better than both the look-ahead and the average, the average starts again from the model;
    - else, if the look-ahead ranks better than the average, it becomes the average;
    - else the average stays as it is.

    So the average never ranks worse than before. The first validation makes the model the average. Validation takes
    twice as long, and keeps a third copy of the table while it lasts. Unlike the authors' program, an average that
    started again counts its first model when the next one is added.
    """

    def __init__(self) -> None:
        self.start_stage()

    @property
    def weights(self) -> Weights | None:
        """The average; None before the first validation."""
        return self._kept.weights

    def start_stage(self) -> None:
        """Starts without an average."""
        self._kept = _Kept()
        self._aside: _Kept | None = None
        """What was kept before a validation that was only due because the stage ended, if that changed it."""

    def check_stage(self, steps: int, *, validated: bool) -> None:
        """Raises InputError without validation, which decides what is averaged."""
        if not validated:
            raise InputError(
                "average=adaptive goes by validation, but this run has none: trainer.valid_every is 0, or the graph "
                "has no valid triples; take average=ema"
            )

    def validate(self, model: KGEModel, rank: Rank, *, regular: bool) -> Ranking:
        """Ranks the model and the look-ahead, decides, and returns the ranking of the average.

        Adds to it `average/raw`, the metric of the model itself, and `average/models`, the number of models in the
        average.
        """
        past, raw = self._kept, rank()
        self._kept = self._decide(model, raw, rank)
        self._aside = None if regular or self._kept is past else past
        assert self._kept.ranking is not None
        own = {"average/raw": raw.value, "average/models": self._kept.models}
        return Ranking(self._kept.ranking.value, {**self._kept.ranking.metrics, **own})

    def _decide(self, model: KGEModel, raw: Ranking, rank: Rank) -> _Kept:
        past = self._kept
        if past.weights is None or past.ranking is None:
            return _Kept(1, Weights.of(model), raw)
        ahead = past.weights.copy()
        ahead.move_towards(model, 1 / (past.models + 1))
        with ahead.in_place_in(model):
            ranking = rank()
        if raw.value > max(ranking.value, past.ranking.value):
            return _Kept(1, Weights.of(model), raw)
        return _Kept(past.models + 1, ahead, ranking) if ranking.value > past.ranking.value else past

    def saved(self) -> dict[str, Weights]:
        """The average, and what it was before a validation that was only due because the stage ended."""
        aside = None if self._aside is None else self._aside.weights
        return {**super().saved(), **({} if aside is None else {"average_aside": aside})}

    def state(self) -> dict[str, float | int]:
        """The number of models and the ranking of the average, and of what was set aside."""
        return {**_numbers("kept", self._kept), **({} if self._aside is None else _numbers("aside", self._aside))}

    def load_state(self, model: KGEModel, state: Mapping[str, Any]) -> None:
        """Restores the average's ranking, so that later ones are compared with it."""
        self._kept = _read("kept", model, state)
        self._aside = _read("aside", model, state) if "aside.models" in state else None

    def take_up_again(self) -> None:
        """Takes up the average from before a validation that was only due because the stage ended."""
        if self._aside is not None:
            self._kept, self._aside = self._aside, None


def _numbers(name: str, kept: _Kept) -> dict[str, float | int]:
    numbers: dict[str, float | int] = {f"{name}.models": kept.models}
    if kept.ranking is not None:
        numbers[f"{name}.value"] = kept.ranking.value
        numbers |= {f"{name}.metrics.{key}": value for key, value in kept.ranking.metrics.items()}
    return numbers


def _read(name: str, model: KGEModel, state: Mapping[str, Any]) -> _Kept:
    models = state.get(f"{name}.models")
    if type(models) is not int or models < 0:
        raise InputError(f"resume: average.{name}.models of the checkpoint must be a count, got {models}")
    if models == 0:
        return _Kept()
    if f"{name}.value" not in state:
        raise InputError(f"resume: the checkpoint's average has no {name}.value")
    prefix = f"{name}.metrics."
    metrics = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return _Kept(models, Weights.of(model), Ranking(state[f"{name}.value"], metrics))
