"""model.json: what an export holds and how to score with it. Each format has one."""

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporting.trained_model import TrainedModel

FORMAT = "advkge export 1"
"""In the field "format" of each model.json: by it an earlier export is known."""


def write_description(trained: TrainedModel, folder: Path, files: Mapping[str, Any]) -> None:
    """Writes model.json.

    Args:
        files: for each file of the export its shape, or what it holds.
    """
    model, scoring = trained.model, trained.scoring
    description = {
        "format": FORMAT,
        "scoring_function": type(scoring).__name__,
        "score": _in_words(type(scoring)),
        "higher_is_more_plausible": True,
        "dim": scoring.dim,
        **scoring.export_options,
        "dtype": str(trained.dtype).removeprefix("torch."),
        "num_entities": trained.graph.num_entities,
        "num_relations": len(trained.relation_names),
        "reciprocal": model.reciprocal,
        "files": files,
        "graph": {"name": trained.graph.name, "fingerprint": trained.graph.fingerprint()},
        "checkpoint": trained.checkpoint.name,
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")


def _in_words(scoring: type) -> str:
    """The docstrings of the scoring function's file and class: paper, formula, and layout of rows."""
    module = inspect.getdoc(sys.modules[scoring.__module__])
    of_class, _, _ = (inspect.getdoc(scoring) or "").partition("\nArgs:\n")  # the options are in a field of their own
    return " ".join(f"{module} {of_class}".split())
