"""The interface of averages: models whose weights are averages of a trained model's weights over time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from embedding.model import KGEModel
from trainer.averaging.weights import Weights
from trainer.validation import Ranking

Rank = Callable[[], Ranking]
"""Ranks the validation triples with the weights that the trained model has now. Collective."""


class Average(ABC):
    """An average of a model's weights, in one stage. The model itself goes on training as without it.

    The average is what validation ranks and what the best checkpoint is chosen by, and the stage ends with it. Until
    there is an average, the model itself is used in its place.

    It depends only on the weights, the steps and the results of validations. So it is the same on any number of ranks,
    up to rounding, and in a run that is resumed.
    """

    @property
    def name(self) -> str:
        """The name of the choice in conf/average, which is also that of the module."""
        return type(self).__module__.rpartition(".")[2]

    @property
    @abstractmethod
    def weights(self) -> Weights | None:
        """The average; None until there is one."""

    @abstractmethod
    def start_stage(self) -> None:
        """Forgets the average of an earlier stage or run."""

    def check_stage(self, steps: int, *, validated: bool) -> None:
        """Raises InputError if the average has no effect on a stage of so many steps, with or without validation."""

    def after_step(self, model: KGEModel, step: int, steps: int) -> None:
        """Called after each step.

        Args:
            step: steps of the stage done, from 1.
            steps: steps of the whole stage.
        """

    @abstractmethod
    def validate(self, model: KGEModel, rank: Rank, *, regular: bool) -> Ranking:
        """The ranking of the average. Collective.

        Args:
            regular: False if there is a validation only because the stage ends.
        """

    def saved(self) -> dict[str, Weights]:
        """The weights that a checkpoint holds, by name: "average", and what else is needed to go on."""
        return {} if self.weights is None else {"average": self.weights}

    @abstractmethod
    def state(self) -> dict[str, float | int]:
        """Numbers to restore when a run is resumed, equal on all ranks."""

    @abstractmethod
    def load_state(self, model: KGEModel, state: Mapping[str, Any]) -> None:
        """Restores the numbers that `state` returned, and makes the weights that `saved` gives, for them to be loaded.

        Raises:
            InputError: the state is not of such an average.
        """

    def take_up_again(self) -> None:
        """Undoes a validation that was only due because the stage ended; called when a run is given more epochs."""
