"""Ranking metrics as a table of text."""

from collections.abc import Mapping
from typing import Any

from trainer.candidate_ranking import PREFIX
from trainer.estimated_ranking import PREFIX as ESTIMATED

FILTERS = {"valid": "train+valid", "test": "train+valid+test"}
"""For each split, the facts that are filtered from its ranks. Validation must not use test facts."""


def results_table(result: Mapping[str, Any], filters: Mapping[str, str]) -> str:
    """Ranking metrics by split and side.

    Args:
        result: has the metrics under "valid", "test" or both.
        filters: by which facts each split was filtered.
    """
    columns = ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10", "tie_gap")
    lines = [f"{'filtered, realistic ties':<26}" + "".join(f"{name:>11}" for name in columns) + "  filtered by"]
    for split in (name for name in ("valid", "test") if name in result):
        for side in ("both", "head", "tail"):
            values = result[split][side]
            digits = (1 if name == "mean_rank" else 4 for name in columns)
            numbers = "".join(f"{values[name]:>11.{n}f}" for name, n in zip(columns, digits, strict=True))
            lines.append(f"{split + ' ' + side:<26}{numbers}  {filters[split]}")
    return "\n".join(lines)


def candidates_table(split: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Metrics of ranks among given candidates, by side; see `CandidateEvaluator`."""
    names = ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10")
    columns = {f"{PREFIX}{name}": f"{PREFIX}{name}" for name in names} | {
        "candidates": "candidates",
        "count": "queries",
    }
    lines = [f"{'among candidates':<18}" + "".join(f"  {title:>13}" for title in columns.values())]
    for side, values in metrics.items():
        shown = {key: f"{values[key]:.4f}" if key in values else "-" for key in columns}
        shown |= {"candidates": f"{values['candidates']:.1f}", "count": f"{values['count']:,.0f}"}
        lines.append(
            f"{split + ' ' + side:<18}" + "".join(f"  {shown[key]:>{max(len(columns[key]), 13)}}" for key in columns)
        )
    if unranked := metrics["both"]["unranked"]:
        lines.append(f"not ranked, because they have no candidates: {unranked:,.0f} queries")
    return "\n".join(lines)


def estimates_table(split: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Estimated metrics of ranks among all entities, by side; see `EstimatedEvaluator`."""
    names = [f"{ESTIMATED}{name}" for name in ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10")]
    lines = [f"{'estimated':<12}" + "".join(f"  {name:>19}" for name in names)]
    for side, values in metrics.items():
        lines.append(f"{split + ' ' + side:<12}" + "".join(f"  {values[name]:>19.4f}" for name in names))
    return "\n".join(lines)


def classification_table(metrics: Mapping[str, float]) -> str:
    """Metrics of triple classification; see `classification_metrics`."""
    names = {"accuracy": "accuracy", "f1": "F1", "auc_roc": "AUC-ROC", "auc_pr": "AUC-PR"}
    return "\n".join(
        [
            f"{'triple classification':<26}" + "".join(f"{title:>11}" for title in names.values()),
            f"{'test':<26}" + "".join(f"{metrics[key]:>11.4f}" for key in names),
            f"{metrics['true']:,.0f} true and {metrics['false']:,.0f} false triples, of which "
            f"{metrics['with_common_threshold']:,.0f} have the threshold of all relations, because their own has not "
            "both kinds in valid",
        ]
    )
