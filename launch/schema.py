"""Types of the options that are not parameters of a class. Their values are in conf/."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf


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


@dataclass
class GraphPlace:
    """Where the files of a saved run's graph are now; None: where they were when it was trained."""

    root: str | None = MISSING
    path: str | None = MISSING
    cache: str | None = MISSING
    """Folder for the cached graph; the run folder's own value is never used."""


@dataclass
class SavedRunOptions:
    """Which trained model to load."""

    run: str | None = MISSING
    checkpoint: str | None = MISSING
    graph: GraphPlace = MISSING


@dataclass
class EvaluateOptions(SavedRunOptions):
    """conf/evaluate.yaml."""

    other_graph: str | None = MISSING
    split: str = MISSING
    filter: str = MISSING
    candidates: str | None = MISSING
    task: str = MISSING
    likely: int = MISSING
    drawn: int = MISSING
    valid_negatives: str | None = MISSING
    test_negatives: str | None = MISSING
    seed: int = MISSING
    storage: str | None = MISSING
    out: str | None = MISSING
    launch: ProcessOptions = MISSING


@dataclass
class ExportOptions(SavedRunOptions):
    """conf/export.yaml."""

    out: str | None = MISSING
    format: str = MISSING


@dataclass
class ReportOptions(SavedRunOptions):
    """conf/report.yaml."""

    sweep: str | None = MISSING
    split: str = MISSING
    out: str | None = MISSING
    launch: DeviceOptions = MISSING


@dataclass
class CompareOptions:
    """conf/compare.yaml."""

    runs: list[str] | None = MISSING
    checkpoint: str | None = MISSING
    split: str = MISSING
    resamples: int = MISSING
    seed: int = MISSING
    out: str | None = MISSING
    graph: GraphPlace = MISSING
    launch: DeviceOptions = MISSING


@dataclass
class PrepareOptions:
    """conf/prepare.yaml."""

    path: str | None = MISSING
    out: str | None = MISSING
    ratio: list[float] = MISSING
    seed: int = MISSING
    covered: bool = MISSING
    together: bool = MISSING
    suffix: str = MISSING
    names: list[str] = MISSING
    wrong_lines: str = MISSING
    graph: Any = MISSING


@dataclass
class DashboardOptions:
    """conf/dashboard.yaml."""

    entity: str | None = MISSING
    project: str = MISSING
    name: str = MISSING
    out: str | None = MISSING


@dataclass
class AnswerOptions(SavedRunOptions):
    """Options of all commands that ask a trained model."""

    k: int = MISSING
    storage: str | None = MISSING
    out: str | None = MISSING
    launch: LaunchOptions = MISSING


@dataclass
class PredictOptions(AnswerOptions):
    """conf/predict.yaml."""

    other_graph: str | None = MISSING
    head: str | None = MISSING
    relation: str | None = MISSING
    tail: str | None = MISSING
    queries: str | None = MISSING
    known: str = MISSING
    loops: str = MISSING
    among: str = MISSING
    probability: str | None = MISSING
    negatives: int = MISSING


@dataclass
class SimilarOptions(AnswerOptions):
    """conf/similar.yaml."""

    entity: str | None = MISSING
    relation: str | None = MISSING
    by: str = MISSING


@dataclass
class DiscoverOptions(AnswerOptions):
    """conf/discover.yaml."""

    relation: str | None = MISSING
    per_relation: int | None = MISSING
    per_head: int | None = MISSING
    heads: int | None = MISSING
    overlap: float = MISSING
    only_missing: str | None = MISSING
    seed: int = MISSING


GONE = ("trainer.checkpoint_every",)
"""Options of earlier versions that run folders may have. They changed nothing of a trained model and are left out."""


def saved_run(config: DictConfig) -> SavedRunOptions:
    """The options in a command's config that say which trained model to load."""
    return SavedRunOptions(run=config.run, checkpoint=config.checkpoint, graph=graph_place(config))


def graph_place(config: DictConfig) -> GraphPlace:
    """The options in a command's config that say where the files of a saved run's graph are."""
    return GraphPlace(root=config.graph.root, path=config.graph.path, cache=config.graph.cache)


def register() -> None:
    """Registers the types with hydra, under the names that the top-level files of conf/ have in `defaults`."""
    for name, node in (
        ("schema", RunOptions),
        ("scorecard_schema", ScorecardRunOptions),
        ("search_schema", SearchRunOptions),
        ("evaluate_schema", EvaluateOptions),
        ("export_schema", ExportOptions),
        ("report_schema", ReportOptions),
        ("compare_schema", CompareOptions),
        ("prepare_schema", PrepareOptions),
        ("dashboard_schema", DashboardOptions),
        ("predict_schema", PredictOptions),
        ("similar_schema", SimilarOptions),
        ("discover_schema", DiscoverOptions),
    ):
        ConfigStore.instance().store(name=name, node=node)
    # ${fraction:N,K} is N / K, rounded up.
    OmegaConf.register_new_resolver("fraction", lambda whole, part: -(-whole // part), replace=True)
    # ${suggested:KEY,VALUE} is what the recipe gives this key, or VALUE.
    OmegaConf.register_new_resolver("suggested", _suggested, replace=True)


def _suggested(key: str, value: Any, *, _root_: DictConfig) -> Any:
    return OmegaConf.select(_root_, f"suggested.{key}", default=value)
