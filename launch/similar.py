"""Finds similar entities or relations: `python launch/similar.py run=RUN entity=NAME`."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

from pathlib import Path

import hydra
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.errors import record

from answers.similar import NEARNESS, similar_entities, similar_relations
from graph.errors import InputError
from launch.answering import Answered, Asked, one_of, run_answer
from launch.main import main_of
from launch.trained_options import SimilarOptions
from reporting.records import Line, Records
from trainer.runtime import Runtime


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="similar")
@record
def run_job(config: DictConfig) -> None:
    """Prints the nearest, or writes them."""
    run_answer(config, __file__, similar)


def similar(options: SimilarOptions, runtime: Runtime) -> Answered:
    """The entities or the relations whose rows are nearest to that of one, nearest first. Collective.

    Args:
        options: conf/similar.yaml explains them.
    Raises:
        InputError: an option is wrong, or `load_run` raises it.
    """
    one_of("by", options.by, tuple(NEARNESS))
    kind = "entity" if options.relation is None else "relation"
    name = options.entity if options.relation is None else options.relation
    if name is None or None not in (options.entity, options.relation):
        raise InputError(f"one of entity= and relation= must be given, got {'none' if name is None else 'both'}")
    asked = Asked.load(options, runtime, storage=options.storage)
    model, graph = asked.run.discriminator, asked.run.graph
    if kind == "entity":
        number, names = asked.ids.entity(name, kind), graph.entity_names
        nearest = similar_entities(model, number, count=options.k, by=options.by, runtime=runtime)
    else:
        number, names = asked.ids.relation(name, kind), graph.relation_names
        if len(names) == 1:
            raise InputError(f"relation={name}: {graph.name} has no other relation that may be similar")
        nearest = similar_relations(model, number, count=options.k, by=options.by)
    sign = -1.0 if options.by == "l2" else 1.0  # a distance
    found = zip(nearest.id.tolist(), nearest.nearness.tolist(), strict=True)
    lines: list[Line] = [
        (names[number], names[int(other)], rank, sign * near) for rank, (other, near) in enumerate(found, start=1)
    ]
    return Answered(Records((kind, "similar", "rank", options.by), lines), [_what(asked, kind), asked.source])


def _what(asked: Asked, kind: str) -> str:
    """Says which numbers were compared."""
    scoring = asked.run.discriminator.scoring
    parts = scoring.entity_parts if kind == "entity" else scoring.relation_parts
    widths = " and ".join(f"{width} numbers of {name}" for name, width in parts.items())
    return f"compared: whole rows of {type(scoring).__name__}: {widths}"


def main() -> None:
    """The command."""
    main_of("similar", run_job)


if __name__ == "__main__":
    main()
