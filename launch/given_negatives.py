"""Says how many of the negatives that a user gave are facts of valid or test."""

import logging
from collections.abc import Sequence

from graph.knowledge_graph import KnowledgeGraph
from graph.leaks import count_repeated
from trainer.stage import Stage

log = logging.getLogger(__name__)


def tell_of_held_out(graph: KnowledgeGraph, stages: Sequence[Stage]) -> None:
    """Warns of facts of valid or test among the negatives of a file.

    They are false negatives. The run keeps them: what it left out, or what a user takes out because of this line,
    would be known to be true.
    """
    for stage in stages:
        given = stage.sampler.given
        found = {split: count_repeated(given, getattr(graph, split)) for split in ("valid", "test")}
        if any(found.values()):
            log.warning(
                "of the %s negatives in the file of the %s stage, %s are facts of valid and %s of test: false "
                "negatives, which are kept, because leaving them out would tell training that they are true",
                f"{len(given):,}",
                stage.name,
                f"{found['valid']:,}",
                f"{found['test']:,}",
            )
