"""Tells hydra the types of the options of each command, so that it refuses a value of another type."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from launch.run_options import RunOptions, ScorecardRunOptions, SearchRunOptions
from launch.trained_options import (
    CompareOptions,
    DiscoverOptions,
    EvaluateOptions,
    ExportOptions,
    PredictOptions,
    ReportOptions,
    SimilarOptions,
)


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
