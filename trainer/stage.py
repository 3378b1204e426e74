"""Stages of a run, and the cursor that says where it stands."""

from dataclasses import asdict, dataclass, field
from typing import Any

from discriminator.discriminator import Discriminator
from generator.sampler import NegativeSampler
from graph.errors import InputError
from graph.sampling import PositiveOrder
from trainer.schedule.schedule import Schedule

BEST = ("best_mrr", "best_step", "best_checkpoint", "stale")

PRETRAINING = "pretrain_"
"""How the names of stages begin that come before the run's own."""


@dataclass(frozen=True)
class Stage:
    """One player trained against one sampler for some epochs.

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
    """Validations without a better MRR before the stage ends; 0 for never."""
    schedule: Schedule
    """Of the learning rates of the trained model's optimiser."""
    fewest_validations: int = 0
    """However many epochs `valid_every` says, the stage is validated as often as this, if it has the steps for it."""
    fewest_lines: int = 0
    """However many steps the trainer's `log_every` says, the stage logs as many lines as this, if it has the steps."""

    def __post_init__(self) -> None:
        for key in ("epochs", "valid_every", "patience"):
            value = getattr(self, key)
            if value < 0:
                raise InputError(f"{key} of the {self.name} stage must be at least 0, got {value}")

    @property
    def steps(self) -> int:
        """Steps of the whole stage."""
        return self.epochs * self.order.steps_per_epoch

    def start(self) -> None:
        """Forgets what an earlier stage left: optimiser, sampler and schedule begin anew."""
        self.player.start_stage()
        self.sampler.start_stage()
        self.schedule.start_stage()

    def validates_after(self, stage_step: int) -> bool:
        """Whether validation is due once so many steps of the stage are done."""
        return self.valid_every > 0 and (self.is_regular(stage_step) or stage_step == self.steps)

    def is_regular(self, stage_step: int) -> bool:
        """Whether validation would be due here in a longer stage too, not only because this one ends."""
        return self.valid_every > 0 and stage_step % self._steps_between_validations == 0

    def goes_on_from(self, stage_step: int) -> bool:
        """Whether the stage has more steps and would not have validated at this one."""
        return stage_step < self.steps and not self.is_regular(stage_step)

    @property
    def _steps_between_validations(self) -> int:
        """After whole epochs, unless the stage has fewer of them than validations."""
        epoch, fewest = self.order.steps_per_epoch, self.fewest_validations
        if fewest * self.valid_every <= self.epochs:
            return self.valid_every * epoch
        return self.epochs // fewest * epoch if fewest <= self.epochs else max(self.steps // fewest, 1)

    def steps_between_lines(self, log_every: int) -> int:
        """Steps from one line of metrics to the next, where `log_every` is how many they are in a long stage."""
        return min(log_every, max(self.steps // self.fewest_lines, 1)) if self.fewest_lines else log_every


@dataclass
class Cursor:
    """Where a run stands: all that a resumed run must know beside its parameters."""

    stage: int = 0
    """Number of the stage."""
    stage_step: int = 0
    """Steps of this stage done."""
    step: int = 0
    """Steps of all stages done."""
    best_mrr: float = -1.0
    """Best validation MRR of this stage, -1 before the first."""
    best_step: int = 0
    """Step of the best validation."""
    best_checkpoint: str | None = None
    """Name of the checkpoint saved there."""
    stale: int = 0
    """Validations since the best."""
    seconds: float = 0.0
    """Time spent on training steps so far, over all sessions of the run."""
    finished: dict[str, int] = field(default_factory=dict)
    """The step that each finished stage went back to: of its best validation, or its last."""
    set_aside: dict[str, Any] | None = None
    """What `best_mrr` to `stale` were before a validation that was due only because the stage ended, if there was one.

    A run that is given more epochs takes them up again, because it would not have validated there.
    """

    def set_best_aside(self) -> None:
        """Notes in `set_aside` what is known of the best so far."""
        self.set_aside = {key: getattr(self, key) for key in BEST}

    def take_up_again(self) -> None:
        """Goes back to what was set aside; raises InputError if that has other fields."""
        if self.set_aside is None or self.set_aside.keys() != set(BEST):
            raise InputError(f"resume: cursor.set_aside must have {', '.join(BEST)}, got {self.set_aside}")
        for key, value in self.set_aside.items():
            setattr(self, key, value)
        self.set_aside = None

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint's manifest."""
        return asdict(self)
