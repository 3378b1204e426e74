"""Ranks a trained run again: `python launch/evaluate.py run=DIR split=valid`, or the same under torchrun.

`candidates=FILE` ranks among given candidates, `task=estimated_ranking` among some entities that stand for all, and
`task=classification` tells true triples from false ones.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import json
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from graph.known import KnownTriples
from graph.slots import Slots
from launch.built_run import Run
from launch.classify import classify, triples_of
from launch.errors import one_line_errors
from launch.main import main_of
from launch.options import check_values
from launch.paths import make_absolute
from launch.saved_run import load_run
from launch.splits import needs_split
from launch.trained_options import saved_run
from reporting.files import write_text
from reporting.ranking_table import candidates_table, estimates_table, results_table
from trainer.candidate_ranking import CandidateEvaluator
from trainer.estimated_ranking import EstimatedEvaluator
from trainer.runtime import Runtime
from trainer.slot_candidates import SlotCandidates, check_numbers

_CHOICES = {
    "split": ("valid", "test"),
    "filter": ("default", "all"),
    "task": ("ranking", "estimated_ranking", "classification"),
}
_ONLY = {"candidates": "ranking", "valid_negatives": "classification", "test_negatives": "classification"}
"""The task that an option is for."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="evaluate")
@record
def run_job(config: DictConfig) -> None:
    """Prints the table; writes nothing unless `out` says where."""
    with one_line_errors():
        make_absolute(config)
        evaluate(config)


def evaluate(config: DictConfig) -> None:
    """Loads, evaluates and reports, as one rank. Collective."""
    _check(config)
    runtime = Runtime.start(device=config.launch.device, timeout_seconds=config.launch.timeout_seconds)
    saved = saved_run(config)
    run, checkpoint = load_run(saved, runtime, other_graph=config.other_graph, storage=config.storage)
    needs_split(run.graph, config.split, f"split={config.split}")
    by_test = config.split == "test" or config.filter == "all"
    known = "train+valid+test" if by_test else "train+valid"
    if config.task == "classification":
        needs_split(run.graph, "valid", "task=classification chooses its thresholds on valid")
        result, table = classify(config, run)
    elif config.task == "estimated_ranking":
        metrics = _estimate(config, run, by_test=by_test)
        result, table = {f"{config.split}_estimated": metrics}, estimates_table(config.split, metrics)
    elif config.candidates is not None:
        metrics = _rank_among(config, run, by_test=by_test)
        result, table = {f"{config.split}_candidates": metrics}, candidates_table(config.split, metrics)
        result["candidates"] = config.candidates
    else:
        evaluator = run.evaluator(run.all_known if by_test else run.known_in_validation)
        metrics = evaluator.evaluate(run.discriminator, getattr(run.graph, config.split)).as_dict()
        result = {config.split: metrics}
        table = results_table(result, {config.split: known})
    if config.task != "classification":
        result, table = {"filter": known, **result}, f"{table}\nfiltered by: {known}"
    if runtime.is_first:
        _write(config, checkpoint, result)
        print(f"{table}\ncheckpoint: {checkpoint}")
    runtime.close()


def _check(config: DictConfig) -> None:
    check_values(config)
    for key, choices in _CHOICES.items():
        if config[key] not in choices:
            raise InputError(f"{key} must be one of {', '.join(choices)}, got {config[key]!r}")
    if config.task == "classification" and config.split != "test":
        raise InputError(
            "split must be test with task=classification, whose thresholds are chosen on valid, got 'valid'"
        )
    check_numbers(config.likely, config.drawn)
    for key, task in _ONLY.items():
        if config[key] is not None and config.task != task:
            raise InputError(f"{key} has no effect with task={config.task}, got {config[key]}")


def _rank_among(config: DictConfig, run: Run, *, by_test: bool) -> dict[str, dict[str, float]]:
    triples = triples_of(run, config.candidates, "candidates").to(run.runtime.device)
    listed = KnownTriples.of(triples, run.graph.num_entities, run.graph.num_relations)
    evaluator = CandidateEvaluator(listed, run.all_known if by_test else run.known_in_validation, run.runtime)
    return evaluator.evaluate(run.discriminator, getattr(run.graph, config.split))


def _estimate(config: DictConfig, run: Run, *, by_test: bool) -> dict[str, dict[str, float]]:
    candidates = SlotCandidates(Slots.of(run.context.statistics), config.likely, config.drawn, config.seed)
    known = run.all_known if by_test else run.known_in_validation
    evaluator = EstimatedEvaluator(known, candidates, run.runtime)
    return evaluator.evaluate(run.discriminator, getattr(run.graph, config.split))


def _write(config: DictConfig, checkpoint: Path, result: dict[str, Any]) -> None:
    if config.out is not None:
        found = {"run": config.run, "checkpoint": checkpoint.name, **result}
        write_text(Path(config.out), json.dumps(found, indent=1))


def main() -> None:
    """The command."""
    main_of("evaluate", run_job)


if __name__ == "__main__":
    main()
