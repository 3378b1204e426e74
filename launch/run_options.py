"""Types of the options of commands that train: one run, a scorecard, or a search. Their values are in conf/.

An option that is an argument of a class has its type there.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class DeviceOptions:
    """Where a command of one process computes."""

    device: str = MISSING


@dataclass
class ProcessOptions(DeviceOptions):
    """Options of the processes of any command that may have several."""

    timeout_seconds: float = MISSING


@dataclass
class LaunchOptions(ProcessOptions):
    """Options of the processes of a training run."""

    ranks: int = MISSING


@dataclass
class TrainerOptions:
    """Options of the last stage, and those that all stages share."""

    epochs: int = MISSING
    batch_size: int | None = MISSING
    chunk_size: int | None = MISSING
    sides: str = MISSING
    subsampling: bool = MISSING
    valid_every: int = MISSING
    valid_sample: int | None = MISSING
    metric: str = MISSING
    patience: int = MISSING
    log_every: int = MISSING
    log_digests: bool = MISSING
    log_usage: bool = MISSING
    checkpoint_minutes: float = MISSING
    cuda_graph: bool | None = MISSING
    deterministic: bool = MISSING
    keep_checkpoints: int = MISSING
    evaluation_memory_mb: int = MISSING


@dataclass
class PretrainOptions:
    """Options of the pre-training of one model; `loss` and `sampler` are chosen from groups."""

    epochs: int = MISSING
    valid_every: int = MISSING
    patience: int = MISSING
    checkpoint: str | None = MISSING
    loss: Any = None
    sampler: Any = None


@dataclass
class PretrainStages:
    """The two stages of pre-training."""

    generator: PretrainOptions = MISSING
    discriminator: PretrainOptions = MISSING


@dataclass
class GrowOptions:
    """The run that a run on a larger graph begins with."""

    run: str | None = MISSING
    root: str | None = MISSING
    path: str | None = MISSING
    freeze_known: bool = MISSING


@dataclass
class RunOptions:
    """conf/train.yaml. A field of type Any is chosen from a group, and is checked against its `_target_`."""

    seed: int = MISSING
    dtype: str = MISSING
    rounding: str = MISSING
    resume: str | None = MISSING
    typed: list[str] | None = MISSING
    suggested: dict[str, Any] = field(default_factory=dict)
    graph: Any = MISSING
    placement: Any = MISSING
    discriminator: Any = MISSING
    encoder: Any = None
    loss: Any = MISSING
    terms: dict[str, Any] = field(default_factory=dict)
    reward: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    average: Any = None
    generator: Any = MISSING
    trackers: dict[str, Any] = field(default_factory=dict)
    quality: Any = None
    trainer: TrainerOptions = MISSING
    pretrain: PretrainStages = MISSING
    grow: GrowOptions = MISSING
    launch: LaunchOptions = MISSING


@dataclass
class ScorecardOptions:
    """Options of a scorecard; conf/scorecard.yaml explains them."""

    generators: list[str] = MISSING
    discriminators: list[str] | None = MISSING
    graphs: list[str] | None = MISSING
    num_negatives: list[int] | None = MISSING
    seeds: list[int] | None = MISSING
    budget: float | None = MISSING
    epochs: int | None = MISSING
    validations: int = MISSING
    folders: list[str] | None = MISSING
    common: list[str] = MISSING
    entries: dict[str, list[str]] = MISSING


@dataclass
class ScorecardRunOptions(RunOptions):
    """conf/scorecard.yaml: the options of a run (MISSING keeps their values) and those of a scorecard."""

    encoder: Any = MISSING
    average: Any = MISSING
    quality: Any = MISSING
    scorecard: ScorecardOptions = MISSING


@dataclass
class SearchOptions:
    """Options of a search; conf/search.yaml explains them."""

    trials: int = MISSING
    workers: int = MISSING
    metric: str | None = MISSING
    first: int = MISSING
    warm_up: int = MISSING


@dataclass
class SearchRunOptions(RunOptions):
    """conf/search.yaml: the options of a run (MISSING keeps their values) and those of a search."""

    encoder: Any = MISSING
    average: Any = MISSING
    quality: Any = MISSING
    search: SearchOptions = MISSING


GONE = ("trainer.checkpoint_every",)
"""Options of earlier versions that run folders may have. They changed nothing of a trained model and are left out."""
