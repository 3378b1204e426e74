"""Ranking metrics as a table of text."""

from collections.abc import Mapping
from typing import Any

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
