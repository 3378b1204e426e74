"""Ends a run: ranks its best model, writes result.json, and shows trackers what they want."""

import json
from pathlib import Path
from typing import Any

from launch.built_run import Run
from launch.for_trackers import ForTrackers
from reporting.files import write_text
from reporting.provenance import describe
from reporting.ranking_table import FILTERS, results_table
from trainer.loop import Metrics, Trainer


def close_run(run: Run, trainer: Trainer, for_trackers: ForTrackers, folder: Path, of_valid: Metrics | None) -> None:
    """Ranks the best model on valid and test, if the graph has them, and writes result.json. Collective.

    Args:
        of_valid: the ranking of valid by the best model, if it was made before: it takes as long as that of test.
    """
    ranked = {
        split: of_valid
        if split == "valid" and of_valid is not None
        else run.evaluator(known).evaluate(run.discriminator, triples).as_dict()
        for split, triples, known in (
            ("valid", run.graph.valid, run.known_in_validation),
            ("test", run.graph.test, run.all_known),
        )
        if len(triples)
    }
    cursor = trainer.cursor
    positives = cursor.step * run.config.trainer.batch_size
    result: dict[str, Any] = {
        **ranked,
        "metric": trainer.validation.name,
        "best_step": cursor.finished[trainer.stages[-1].name],
        "steps": cursor.step,
        "stages": cursor.finished,
        "seconds": cursor.seconds,
        "triples_per_second": positives / cursor.seconds if cursor.seconds else 0.0,
        "seed": run.config.seed,
        "world_size": run.runtime.world_size,
        "entity_numbers": run.discriminator.learned_rows.shape[1],
        "made_by": describe(),
    }
    if run.runtime.is_first:  # first, so that no error of a tracker costs the result
        write_text(folder / "result.json", json.dumps(result, indent=1))
    _finish_trackers(trainer, for_trackers, result)
    if run.runtime.is_first:
        if ranked:
            print(results_table(result, FILTERS))
            print(_model_of(trainer, result["best_step"]))
        for split in ("valid", "test"):
            if split not in ranked:
                print(f"not ranked on {split}: {run.graph.name} has no {split} triples")
        print(f"run folder: {folder}")


def _model_of(trainer: Trainer, best_step: int) -> str:
    """Says which epoch the ranked model is of."""
    cursor, stage = trainer.cursor, trainer.stages[-1]
    trained = best_step - (cursor.step - cursor.stage_step)
    if trained < 1:
        return "of the model before any epoch"
    why = "the end of training" if cursor.best_checkpoint is None else f"the best by {trainer.validation.name}"
    return f"of the model after {stage.place(trained)}: {why}"


def _finish_trackers(trainer: Trainer, for_trackers: ForTrackers, result: dict[str, Any]) -> None:
    try:
        for_trackers.at_end()
    except BaseException:
        for tracker in trainer.trackers:
            tracker.finish(None)
        raise
    for tracker in trainer.trackers:
        tracker.finish(result)
