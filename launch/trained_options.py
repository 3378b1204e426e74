"""Types of the options of commands that take a trained model. Their values are in conf/."""

from dataclasses import dataclass

from omegaconf import MISSING, DictConfig

from launch.run_options import DeviceOptions, LaunchOptions, ProcessOptions


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


def saved_run(config: DictConfig) -> SavedRunOptions:
    """The options in a command's config that say which trained model to load."""
    return SavedRunOptions(run=config.run, checkpoint=config.checkpoint, graph=graph_place(config))


def graph_place(config: DictConfig) -> GraphPlace:
    """The options in a command's config that say where the files of a saved run's graph are."""
    return GraphPlace(root=config.graph.root, path=config.graph.path, cache=config.graph.cache)
