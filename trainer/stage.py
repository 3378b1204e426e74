"""Stages of a run, and the cursor that says where it stands."""

from dataclasses import asdict, dataclass, field
from typing import Any

from discriminator.discriminator import Discriminator
from generator.sampler import NegativeSampler
from graph.errors import InputError
from graph.sampling import PositiveOrder

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

    def validates_after(self, stage_step: int) -> bool:
        """Whether validation is due once so many steps of the stage are done."""
        if self.valid_every == 0:
            return False
        return stage_step % self._steps_between_validations == 0 or stage_step == self.steps

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

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint's manifest."""
        return asdict(self)
