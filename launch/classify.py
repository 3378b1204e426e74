"""Triple classification of a trained run, with false triples from files or corrupted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from omegaconf import DictConfig
from torch import Tensor

from graph.corruption import are_known, corrupt_each
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownFacts, KnownTriples, together
from graph.named_triples import read_named
from launch.built_run import Run
from reporting.ranking_table import classification_table
from trainer.classification import Scored, Thresholds, classification_metrics
from trainer.spread_scores import score_triples


def classify(config: DictConfig, run: Run) -> tuple[dict[str, Any], str]:
    """Chooses thresholds on valid, and tells the true triples of test from false ones. Collective.

    Returns:
        The result as JSON values, and the text to print.
    """
    notes: list[str] = []
    valid = _scored(config, run, "valid", notes)
    test = _scored(config, run, "test", notes)
    thresholds = Thresholds.of(valid, run.graph.num_relations)
    metrics = classification_metrics(thresholds, test)
    names = run.graph.relation_names
    own = {
        names[number]: float(thresholds.of_relation[number]) for number in thresholds.is_own.nonzero()[:, 0].tolist()
    }
    result = {
        "test_classification": metrics,
        "valid_negatives": config.valid_negatives or f"corrupted with seed {config.seed}",
        "test_negatives": config.test_negatives or f"corrupted with seed {config.seed}",
        "thresholds": {"of_all_relations": thresholds.common, "by_relation": own},
    }
    return result, "\n".join([classification_table(metrics), *notes])


def _scored(config: DictConfig, run: Run, split: str, notes: list[str]) -> Scored:
    """The true triples of a split and false ones, with their scores."""
    true: Int64[Tensor, "T 3"] = getattr(run.graph, split)
    false = _false(config, run, split, notes)
    triples = torch.cat([true, false])
    score = score_triples(run.discriminator, run.runtime, triples).cpu()
    return Scored(triples[:, 1], score, torch.arange(len(triples)) < len(true))


def _false(config: DictConfig, run: Run, split: str, notes: list[str]) -> Int64[Tensor, "K 3"]:
    key, graph = f"{split}_negatives", run.graph
    if config[key] is not None:
        false = triples_of(run, config[key], key)
        facts = _known(graph, ["valid", "test"])
        if count := int(are_known(false, facts).sum()):
            notes.append(f"{key}: {count:,} of {len(false):,} are facts of the graph, but count as false")
        return false
    # Thresholds must not know test facts, not even by their absence.
    splits = ["valid", *(["test"] if split == "test" or config.filter == "all" else [])]
    known = _known(graph, splits)
    false, without = corrupt_each(getattr(graph, split), run.context.statistics, known, config.seed)
    if not len(false):
        raise InputError(
            f"{key}: no {split} triple has a corruption that is no known fact; give a file of false triples"
        )
    notes.append(
        f"{split}: one corruption of each triple, with seed {config.seed}, which is no fact of train+{'+'.join(splits)}"
        + (f"; {without:,} triples have none" if without else "")
    )
    return false


def triples_of(run: Run, path: str, key: str) -> Int64[Tensor, "T 3"]:
    """The triples of a file, by the names of the run's graph; `key` is the option that gave it."""
    return read_named(Path(path), run.graph.entity_names, run.graph.relation_names, key)


def _known(graph: KnowledgeGraph, splits: Sequence[str]) -> KnownFacts:
    """The facts of train and of these splits."""
    others = torch.cat([getattr(graph, split) for split in splits])
    return together(graph.known, KnownTriples.of(others, graph.num_entities, graph.num_relations))
