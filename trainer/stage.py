"""The stages of a run, and the cursor that holds its position."""

from dataclasses import asdict, dataclass, field
from typing import Any

from discriminator.discriminator import Discriminator
from generator.sampler import NegativeSampler
from graph.errors import InputError
from graph.sampling import PositiveOrder
from trainer.averaging.average import Average, Rank, Ranking
from trainer.schedule.schedule import Schedule

BEST = ("best_value", "best_step", "best_checkpoint", "stale")

PRETRAINING = "pretrain_"
"""The start of the names of pre-training stages."""


@dataclass(frozen=True)
class Stage:
    """One model trained with the negatives of one sampler for some epochs.

    KBGAN has three: its generator's model against random negatives, the discriminator against random negatives, then
    the discriminator against the generator.
    """

    name: str
    trained: str
    """Which model learns from positives: "discriminator" or "generator"; named so in checkpoints."""
    player: Discriminator
    sampler: NegativeSampler
    order: PositiveOrder
    epochs: int
    valid_every: int
    """Epochs between validations; 0 for none."""
    patience: int
    """Validations without a better metric before the stage ends; 0 for never."""
    schedule: Schedule
    """The schedule of the learning rates of the trained model's optimiser."""
    average: Average | None = None
    """The average of the trained model's weights that validation ranks and the stage ends with; None: the model."""
    fewest_validations: int = 0
    """The stage is validated at least this often, whatever `valid_every` is, if it has enough steps."""
    fewest_lines: int = 0
    """The stage logs at least this many lines, whatever the trainer's `log_every` is, if it has enough steps."""

    def __post_init__(self) -> None:
        for key in ("epochs", "valid_every", "patience"):
            value = getattr(self, key)
            if value < 0:
                raise InputError(f"{key} of the {self.name} stage must be at least 0, got {value}")

    @property
    def steps(self) -> int:
        """Steps of the whole stage."""
        return self.epochs * self.order.steps_per_epoch

    def place(self, stage_step: int) -> str:
        """Where the stage is after some steps, at least one: its epoch, and the step if that is in the midst of one."""
        per_epoch = self.order.steps_per_epoch
        epoch = f"epoch {(stage_step - 1) // per_epoch + 1:,} of {self.epochs:,}"
        within = stage_step % per_epoch
        return f"{epoch}, step {within:,} of {per_epoch:,}" if within else epoch

    def start(self) -> None:
        """Resets the optimiser, the sampler, the schedule and the average for the start of the stage."""
        self.player.start_stage()
        self.sampler.start_stage()
        self.schedule.start_stage()
        if self.average is not None:
            self.average.start_stage()

    def after_step(self, stage_step: int) -> None:
        """Updates the average after a step; `stage_step` counts from 1."""
        if self.average is not None:
            self.average.after_step(self.player.model, stage_step, self.steps)

    def rank(self, rank: Rank, stage_step: int) -> Ranking:
        """The ranking of the average after `stage_step` steps, or of the model if the stage has no average. Collective.

        Args:
            rank: ranks with the weights that the model has now.
        """
        if self.average is None:
            return rank()
        return self.average.validate(self.player.model, rank, regular=self.is_regular(stage_step))

    def use_average(self) -> None:
        """Overwrites the model with the average, if there is one. The stage can't go on after this."""
        if self.average is not None and self.average.weights is not None:
            self.average.weights.copy_to(self.player.model)

    def validates_after(self, stage_step: int) -> bool:
        """Whether the stage is validated after `stage_step` steps: regularly, and after its last step."""
        return self.valid_every > 0 and (self.is_regular(stage_step) or stage_step == self.steps)

    def is_regular(self, stage_step: int) -> bool:
        """Whether the stage is validated here regularly, and not only because it ends."""
        return self.valid_every > 0 and stage_step % self._steps_between_validations == 0

    def had_validation_before(self, stage_step: int) -> bool:
        """Whether the stage was validated before this step."""
        return self.valid_every > 0 and stage_step > self._steps_between_validations

    def goes_on_from(self, stage_step: int) -> bool:
        """Whether the stage has more steps and has no regular validation at this one."""
        return stage_step < self.steps and not self.is_regular(stage_step)

    @property
    def _steps_between_validations(self) -> int:
        """A whole number of epochs, unless the stage has fewer epochs than validations."""
        epoch, fewest = self.order.steps_per_epoch, self.fewest_validations
        if fewest * self.valid_every <= self.epochs:
            return self.valid_every * epoch
        return self.epochs // fewest * epoch if fewest <= self.epochs else max(self.steps // fewest, 1)

    def steps_between_lines(self, log_every: int) -> int:
        """Steps between lines of metrics: `log_every`, or fewer in a stage too short for `fewest_lines` lines."""
        return min(log_every, max(self.steps // self.fewest_lines, 1)) if self.fewest_lines else log_every


@dataclass
class Cursor:
    """The position of a run: all that a resumed run needs besides the tensors."""

    stage: int = 0
    """Number of the stage, from 0."""
    stage_step: int = 0
    """Steps of this stage done."""
    step: int = 0
    """Steps of all stages done."""
    best_value: float = -1.0
    """Best value of the validation metric in this stage, -1 before the first."""
    best_step: int = 0
    """Step of the best validation."""
    best_checkpoint: str | None = None
    """Name of the checkpoint of the best validation."""
    stale: int = 0
    """Validations since the best."""
    seconds: float = 0.0
    """Time spent on training steps so far, over all sessions of the run."""
    finished: dict[str, int] = field(default_factory=dict)
    """The step that each finished stage went back to: of its best validation, or its last."""
    set_aside: dict[str, Any] | None = None
    """What `best_value` to `stale` were before a validation that was due only because the stage ended, if there was.

    A run that is given more epochs takes them up again, because it would not have validated there.
    """

    def set_best_aside(self) -> None:
        """Copies `best_value`, `best_step`, `best_checkpoint` and `stale` to `set_aside`."""
        self.set_aside = {key: getattr(self, key) for key in BEST}

    def take_up_again(self) -> None:
        """Restores the values in `set_aside`; raises InputError if its fields are wrong."""
        if self.set_aside is None or self.set_aside.keys() != set(BEST):
            raise InputError(f"resume: cursor.set_aside must have {', '.join(BEST)}, got {self.set_aside}")
        for key, value in self.set_aside.items():
            setattr(self, key, value)
        self.set_aside = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values for a checkpoint's manifest."""
        return asdict(self)
