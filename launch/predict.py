"""Asks a trained model: `python launch/predict.py run=RUN head=NAME relation=NAME`, or many queries from a file."""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
import torch
from jaxtyping import Float64, Int64
from omegaconf import DictConfig
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

from answers.best import Allowed, Best
from answers.calibration import METHODS, Calibration, calibrate, require_scikit_learn
from answers.left_out import notes_of
from answers.queries import ASKED, Query, read_queries, typed_query
from graph.errors import InputError
from launch.answering import Answered, Asked, at_least_1, one_of, run_answer
from launch.main import main_of
from launch.reliability import reliability_of
from launch.splits import needs_split
from launch.trained_options import PredictOptions
from reporting.records import Line, Records, Value
from trainer.progress_bar import progress_bar
from trainer.runtime import Runtime

_MOST_QUERIES = 8192
"""Queries whose answers are held at a time: a file may have millions."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="predict")
@record
def run_job(config: DictConfig) -> None:
    """Prints the answers, or writes them."""
    run_answer(config, __file__, predict)


def predict(options: PredictOptions, runtime: Runtime) -> Answered:
    """The best answers of queries, or the scores and ranks of triples. Collective, also while lines are read.

    Args:
        options: conf/predict.yaml explains them.
    Returns:
        Lines in the order of the queries, best answers first.
    Raises:
        InputError: an option or a line of the file of queries is wrong, or `load_run` raises it.
    """
    for key in ("known", "loops"):
        one_of(key, getattr(options, key), ("leave_out", "show"))
    one_of("among", options.among, ("all", "seen_in_slot"))
    one_of("probability", options.probability, METHODS)
    at_least_1("negatives", options.negatives)
    if options.probability is not None:
        require_scikit_learn(options.probability)
    queries = _queries(options)
    asked = Asked.load(options, runtime, other_graph=options.other_graph, storage=options.storage)
    ids = asked.ids.of(queries)
    calibration, notes = None, [asked.source]
    if options.probability is not None:
        key, valid = f"probability={options.probability}", asked.run.graph.valid
        needs_split(asked.run.graph, "valid", key)
        calibration = calibrate(
            asked.completions,
            valid,
            method=options.probability,
            negatives=options.negatives,
            seed=asked.run.config.seed,
        )
        notes.append(reliability_of(calibration))
    if options.queries is None and options.known == "leave_out" and bool((ids == ASKED).any()):
        notes[:0] = notes_of(asked.completions, ids[0], asked.run.graph, asked.run.context.statistics)
    allowed = Allowed(known=options.known == "show", loops=options.loops == "show", unseen=options.among == "all")
    return Answered(_Answers(asked, ids, options.k, allowed, calibration, notes).records(), notes)


def _queries(options: PredictOptions) -> list[Query]:
    typed = [key for key in ("head", "relation", "tail") if getattr(options, key) is not None]
    if options.queries is None:
        return [typed_query(options.head, options.relation, options.tail)]
    if typed:
        raise InputError(f"queries: take the queries of a file or {', '.join(typed)}, not both, got {options.queries}")
    return read_queries(Path(options.queries))


class _Answers:
    """The lines of all queries, computed while they are read."""

    def __init__(
        self,
        asked: Asked,
        ids: Int64[Tensor, "Q 3"],
        count: int,
        allowed: Allowed,
        calibration: Calibration | None,
        notes: list[str],
    ) -> None:
        self.asked = asked
        self.ids = ids
        self.count = count
        self.allowed = allowed
        self.calibration = calibration
        self.notes = notes  # which are printed after the lines
        self.num_answers, self.num_unseen = 0, 0
        whole = (ids != ASKED).all(1)
        self.has_ranks, self.has_rank = bool(whole.any()), not bool(whole.all())

    def records(self) -> Records:
        """A column `rank` for answers, `head_rank` and `tail_rank` for whole triples, and a probability if wanted."""
        columns = ["head", "relation", "tail"]
        columns += ["rank"] * self.has_rank + ["head_rank", "tail_rank"] * self.has_ranks + ["score", "known"]
        return Records([*columns, *["probability"] * (self.calibration is not None)], self._lines())

    def _lines(self) -> Iterator[Line]:
        with progress_bar("queries", len(self.ids), self.asked.run.runtime, unit="query") as progress:
            for ids in self.ids.split(_MOST_QUERIES):
                for lines in self._of_part(ids):
                    yield from lines
                progress(len(ids))
        if self.num_unseen:
            number = f"{self.num_unseen:,} of {self.num_answers:,} answers"
            never = "never have this place of the relation in train"
            place = self.notes.index(self.asked.source)
            self.notes.insert(place, f"{number} {never}; among=seen_in_slot leaves them out")

    def _of_part(self, ids: Int64[Tensor, "q 3"]) -> list[list[Line]]:
        """The lines of each of some queries."""
        of_query: list[list[Line]] = [[] for _ in ids]
        for column in range(3):
            (place,) = torch.nonzero(ids[:, column] == ASKED, as_tuple=True)
            if len(place):
                self._answer(ids, place, column, of_query)
        (place,) = torch.nonzero((ids != ASKED).all(1), as_tuple=True)
        if len(place):
            self._score(ids, place, of_query)
        return of_query

    def _answer(self, ids: Int64[Tensor, "q 3"], place: Tensor, column: int, of_query: list[list[Line]]) -> None:
        """The lines of those queries that ask for this column."""
        head, relation, tail = ids[place].unbind(1)
        of, options = self.asked.completions, {"count": self.count, "allowed": self.allowed}
        if column == 0:
            best = of.heads(relation, tail, **options)
        elif column == 1:
            best = of.relations(head, tail, **options)
        else:
            best = of.tails(head, relation, **options)
        if column != 1:
            self._count_unseen(best, relation, column)
        columns = [best.answer, best.score, best.known, *self._probabilities(best.score)]
        there = best.score.isfinite().sum(1).tolist()
        for query, count, *values in zip(place.tolist(), there, *(each.tolist() for each in columns), strict=True):
            triple = ids[query].tolist()
            for rank, (answer, *others) in enumerate(zip(*values, strict=True), start=1):
                if rank > count:
                    break
                triple[column] = answer
                of_query[query].append(self._line(triple, rank, None, others))

    def _count_unseen(self, best: Best, relation: Int64[Tensor, " q"], column: int) -> None:
        slots, there = self.asked.completions.slots, best.score.isfinite()
        slot = relation + (0 if column == 0 else slots.num_relations)
        self.num_answers += int(there.sum())
        self.num_unseen += int((there & ~slots.sets.contains(slot, best.answer)).sum())

    def _score(self, ids: Int64[Tensor, "q 3"], place: Tensor, of_query: list[list[Line]]) -> None:
        """The lines of whole triples."""
        found = self.asked.completions.scores(ids[place])
        columns = [found.head_rank, found.tail_rank, found.score, found.known, *self._probabilities(found.score)]
        for query, head, tail, *others in zip(place.tolist(), *(each.tolist() for each in columns), strict=True):
            of_query[query].append(self._line(ids[query].tolist(), None, (head, tail), others))

    def _probabilities(self, score: Float64[Tensor, "*s"]) -> list[Tensor]:
        return [] if self.calibration is None else [self.calibration.probability(score)]

    def _line(
        self, triple: list[int], rank: int | None, ranks: tuple[float, float] | None, others: Sequence[Value]
    ) -> Line:
        graph, (head, relation, tail) = self.asked.run.graph, triple
        names = graph.entity_names[head], graph.relation_names[relation], graph.entity_names[tail]
        return [*names, *[rank] * self.has_rank, *(ranks or (None, None)) * self.has_ranks, *others]


def main() -> None:
    """The command."""
    main_of("predict", run_job)


if __name__ == "__main__":
    main()
