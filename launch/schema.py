"""Types of the options that no class owns. Their values are in conf/, each in one place."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf


@dataclass
class ProcessOptions:
    """The processes of a command."""

    device: str = MISSING
    timeout_seconds: float = MISSING


@dataclass
class LaunchOptions(ProcessOptions):
    """The processes of a run."""

    ranks: int = MISSING


@dataclass
class TrainerOptions:
    """The last stage, and what all stages share."""

    epochs: int = MISSING
    batch_size: int = MISSING
    chunk_size: int = MISSING
    sides: str = MISSING
    subsampling: bool = MISSING
    valid_every: int = MISSING
    patience: int = MISSING
    log_every: int = MISSING
    log_digests: bool = MISSING
    checkpoint_every: int = MISSING
    keep_checkpoints: int = MISSING
    evaluation_memory_mb: int = MISSING


@dataclass
class PretrainOptions:
    """One model's pre-training; `loss` and `sampler` are groups."""

    epochs: int = MISSING
    valid_every: int = MISSING
    patience: int = MISSING
    checkpoint: str | None = MISSING
    loss: Any = None
    sampler: Any = None


@dataclass
class PretrainStages:
    """The two stages before the last."""

    generator: PretrainOptions = MISSING
    discriminator: PretrainOptions = MISSING


@dataclass
class RunOptions:
    """A whole run; `Any` is a group, whose options its `_target_` checks."""

    seed: int = MISSING
    dtype: str = MISSING
    resume: str | None = MISSING
    typed: list[str] | None = MISSING
    graph: Any = MISSING
    placement: Any = MISSING
    discriminator: Any = MISSING
    loss: Any = MISSING
    terms: dict[str, Any] = field(default_factory=dict)
    reward: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    generator: Any = MISSING
    tracker: Any = None
    quality: Any = None
    trainer: TrainerOptions = MISSING
    pretrain: PretrainStages = MISSING
    launch: LaunchOptions = MISSING


@dataclass
class ScorecardOptions:
    """What a scorecard compares."""

    generators: list[str] = MISSING
    discriminators: list[str] | None = MISSING
    graphs: list[str] | None = MISSING
    seeds: list[int] | None = MISSING
    budget: float | None = MISSING
    epochs: int | None = MISSING
    validations: int = MISSING
    folders: list[str] | None = MISSING
    common: list[str] = MISSING
    entries: dict[str, list[str]] = MISSING


@dataclass
class ScorecardRunOptions(RunOptions):
    """conf/scorecard.yaml: that of a run, whose values stay as they are where this says MISSING."""

    tracker: Any = MISSING
    quality: Any = MISSING
    scorecard: ScorecardOptions = MISSING


@dataclass
class SearchOptions:
    """How a search goes."""

    trials: int = MISSING
    workers: int = MISSING
    metric: str = MISSING
    first: int = MISSING
    warm_up: int = MISSING


@dataclass
class SearchRunOptions(RunOptions):
    """conf/search.yaml: that of a run, whose values stay as they are where this says MISSING."""

    tracker: Any = MISSING
    quality: Any = MISSING
    search: SearchOptions = MISSING


@dataclass
class GraphPlace:
    """Where the files of a saved run's graph are now; None for where the run found them."""

    root: str | None = MISSING
    path: str | None = MISSING
    cache: str | None = MISSING
    """Where an encoded graph is kept: never where the run says."""


@dataclass
class SavedRunOptions:
    """Which trained model a command takes."""

    run: str | None = MISSING
    checkpoint: str | None = MISSING
    graph: GraphPlace = MISSING


@dataclass
class EvaluateOptions(SavedRunOptions):
    """conf/evaluate.yaml."""

    split: str = MISSING
    filter: str = MISSING
    out: str | None = MISSING
    launch: ProcessOptions = MISSING


@dataclass
class ExportOptions(SavedRunOptions):
    """conf/export.yaml."""

    out: str | None = MISSING


def saved_run(config: DictConfig) -> SavedRunOptions:
    """The part of a command's config that says which trained model it takes."""
    graph = GraphPlace(root=config.graph.root, path=config.graph.path, cache=config.graph.cache)
    return SavedRunOptions(run=config.run, checkpoint=config.checkpoint, graph=graph)


def register() -> None:
    """Makes the types known to hydra, as what the top-level files of conf/ build on."""
    for name, node in (
        ("schema", RunOptions),
        ("scorecard_schema", ScorecardRunOptions),
        ("search_schema", SearchRunOptions),
        ("evaluate_schema", EvaluateOptions),
        ("export_schema", ExportOptions),
    ):
        ConfigStore.instance().store(name=name, node=node)
    # ${fraction:N,K}: a K-th of N, rounded up.
    OmegaConf.register_new_resolver("fraction", lambda whole, part: -(-whole // part), replace=True)
