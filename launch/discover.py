"""Finds facts that the graph lacks: `python launch/discover.py run=RUN relation=NAME,NAME k=100`."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

from pathlib import Path

import hydra
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.errors import record

from answers.discovery import Limits, discover
from graph.errors import InputError
from launch.answering import Answered, Asked, at_least_1, one_of, run_answer
from launch.main import main_of
from launch.trained_options import DiscoverOptions
from reporting.records import Line, Records
from trainer.runtime import Runtime


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="discover")
@record
def run_job(config: DictConfig) -> None:
    """Prints the facts, or writes them."""
    run_answer(config, __file__, discover_facts)


def discover_facts(options: DiscoverOptions, runtime: Runtime) -> Answered:
    """The most plausible facts of some relations that are in no split, best first. Collective.

    Args:
        options: conf/discover.yaml explains them.
    Raises:
        InputError: an option is wrong, or `load_run` raises it.
    """
    for key in ("per_relation", "per_head", "heads"):
        at_least_1(key, getattr(options, key))
    if not 0 < options.overlap <= 1:
        raise InputError(f"overlap must be above 0 and at most 1, got {options.overlap}")
    one_of("only_missing", options.only_missing, ("heads", "tails", "both"))
    asked = Asked.load(options, runtime, storage=options.storage)
    limits = Limits(
        options.k,
        options.per_relation,
        options.per_head,
        options.heads,
        options.overlap,
        options.seed,
        options.only_missing,
    )
    found = discover(asked.completions, _relations(asked, options.relation), limits)
    entities, relations = asked.run.graph.entity_names, asked.run.graph.relation_names
    columns = (*found.triples.T.tolist(), found.score.tolist())
    lines: list[Line] = [
        (entities[int(head)], relations[int(relation)], entities[int(tail)], rank, score, False)
        for rank, (head, relation, tail, score) in enumerate(zip(*columns, strict=True), start=1)
    ]
    scored = f"scored {found.scored:,} of the {found.pairs:,} pairs of a head and a tail"
    return Answered(Records(("head", "relation", "tail", "rank", "score", "known"), lines), [scored, asked.source])


def _relations(asked: Asked, names: str | None) -> list[int]:
    """The relations of a name, or of several that are separated by commas; of None, all."""
    if names is None:
        return list(range(asked.run.graph.num_relations))
    several = [names] if asked.ids.has_relation(names) else names.split(",")
    return list(dict.fromkeys(asked.ids.relation(name, "relation") for name in several))


def main() -> None:
    """The command."""
    main_of("discover", run_job)


if __name__ == "__main__":
    main()
