"""A trained model, asked from Python by names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray

from answers.best import Allowed, Best
from answers.similar import Nearest, similar_entities, similar_relations
from graph.errors import InputError
from launch.answering import Asked
from launch.trained_options import GraphPlace, SavedRunOptions
from trainer.runtime import Runtime

_TIMEOUT = 60.0
Names = str | Sequence[str]
"""One name, or a name for each triple."""


@dataclass(frozen=True)
class Answer:
    """One answer of a query."""

    name: str
    score: float
    """Higher is more plausible. Scores of different queries can be compared only with care."""
    known: bool
    """Whether the answer makes a fact of train, valid or test."""


@dataclass(frozen=True)
class Similar:
    """An entity or relation near another one."""

    name: str
    nearness: float
    """Higher is nearer: the cosine, the dot product, or minus the distance."""


class Model:
    """A trained model in this process, whatever number of ranks trained it. Made by `advkge.load` and `advkge.train`.

    Example:
        model = advkge.load("outputs/first")
        model.tails("Austria", "borders", k=3)  # [Answer(name="Slovakia", score=..., known=False), ...]
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.checkpoint = asked.checkpoint
        """The folder of the checkpoint that the rows are from."""
        self.entity_names: Sequence[str] = asked.run.graph.entity_names
        """Names by id."""
        self.relation_names: Sequence[str] = asked.run.graph.relation_names

    def __repr__(self) -> str:
        run = self._asked.run
        return (
            f"<advkge.Model {type(run.discriminator.scoring).__name__} of {run.graph.name}: "
            f"{len(self.entity_names):,} entities, {len(self.relation_names):,} relations, {self.checkpoint}>"
        )

    def tails(
        self,
        head: str,
        relation: str,
        *,
        k: int = 10,
        known: bool = False,
        loops: bool = False,
        seen_in_slot: bool = False,
    ) -> list[Answer]:
        """The best tails of (head, relation, ?), best first.

        Args:
            k: the most answers.
            known: also those that make a fact of train, valid or test.
            loops: also the head itself, which some models (TransE) score highest for many relations.
            seen_in_slot: only entities that train has as tails of this relation.
        Raises:
            InputError: the graph has no such name; says which names look like it.
        """
        h, r = self._entity(head, "head"), self._relation(relation)
        best = self._asked.completions.tails(h, r, count=_at_least_1(k), allowed=_allowed(known, loops, seen_in_slot))
        return self._answers(best, self.entity_names)

    def heads(
        self,
        relation: str,
        tail: str,
        *,
        k: int = 10,
        known: bool = False,
        loops: bool = False,
        seen_in_slot: bool = False,
    ) -> list[Answer]:
        """The best heads of (?, relation, tail); see `tails`."""
        r, t = self._relation(relation), self._entity(tail, "tail")
        best = self._asked.completions.heads(r, t, count=_at_least_1(k), allowed=_allowed(known, loops, seen_in_slot))
        return self._answers(best, self.entity_names)

    def relations(self, head: str, tail: str, *, k: int = 10, known: bool = False) -> list[Answer]:
        """The best relations of (head, ?, tail), scored as tails of (head, relation); see `tails`."""
        h, t = self._entity(head, "head"), self._entity(tail, "tail")
        allowed = Allowed(known=known, loops=True)
        best = self._asked.completions.relations(h, t, count=_at_least_1(k), allowed=allowed)
        return self._answers(best, self.relation_names)

    @overload
    def score(self, triples: Iterable[tuple[str, str, str]], /) -> NDArray[np.float64]: ...
    @overload
    def score(self, head: str, relation: str, tail: str, /) -> float: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def score(self, head: Names, relation: Names, tail: Names, /) -> NDArray[np.float64]: ...
    def score(self, head: Any, relation: Any = None, tail: Any = None, /) -> Any:
        """The score of a triple, or the scores [T] of several, as tails of (head, relation); higher is more plausible.

        Args:
            head: a name, or one for each triple. Or all triples, (head, relation, tail) of each, and nothing else.
            relation: a name, or one for each triple. A single name among lists is that of all triples.
            tail: the same.
        Raises:
            InputError: the graph has no such name, or the lists have different lengths.

        Example:
            model.score("Austria", "borders", "Italy")
            model.score("Austria", "borders", ["Italy", "Spain"])
            model.score([("Austria", "borders", "Italy"), ("Austria", "borders", "Spain")])
        """
        triples = _triples(head, relation, tail)
        rows = [
            (
                self._asked.ids.entity(_name(h, "head", self.entity_names), "head"),
                self._asked.ids.relation(_name(r, "relation", self.relation_names), "relation"),
                self._asked.ids.entity(_name(t, "tail", self.entity_names), "tail"),
            )
            for h, r, t in triples
        ]
        ids = torch.tensor(rows, dtype=torch.int64).view(-1, 3)
        scores = self._asked.completions.plain_scores(*ids.unbind(1)).numpy()
        return float(scores[0]) if all(isinstance(part, str) for part in (head, relation, tail)) else scores

    def similar(
        self,
        entity: str | None = None,
        *,
        relation: str | None = None,
        k: int = 10,
        by: Literal["cosine", "l2", "dot"] = "cosine",
    ) -> list[Similar]:
        """The entities nearest to an entity, or the relations nearest to a relation, by their rows.

        Raises:
            InputError: not exactly one of the two is given, or the graph has no such name.
        """
        if (entity is None) == (relation is None):
            raise InputError(f"similar needs an entity or a relation, got entity={entity!r} and relation={relation!r}")
        if by not in ("cosine", "l2", "dot"):
            raise InputError(f"by must be cosine, l2 or dot, got {by!r}")
        model, run = self._asked.run.discriminator, self._asked.run
        if entity is not None:
            number = self._asked.ids.entity(_name(entity, "entity", self.entity_names), "entity")
            found = similar_entities(model, number, count=_at_least_1(k), by=by, runtime=run.runtime)
            return _nearest(found, self.entity_names)
        assert relation is not None
        number = self._asked.ids.relation(_name(relation, "relation", self.relation_names), "relation")
        return _nearest(similar_relations(model, number, count=_at_least_1(k), by=by), self.relation_names)

    def embeddings(self, of: Literal["entities", "relations"] = "entities") -> torch.Tensor:
        """All rows as a new tensor, in the order of `entity_names` or `relation_names`: [E, D] or [R, D].

        With reciprocal relations, their R rows follow. A row has all parts that the scoring function gives an entity,
        such as the real and then the imaginary parts of ComplEx; `advkge export` writes them apart and describes them.
        `.numpy()` makes it an array.
        """
        model = self._asked.run.discriminator
        if of == "entities":
            if not model.has_vectors:
                raise InputError("of='entities': this model learns no entity vectors; there are those of='relations'")
            return model.entity(torch.arange(len(self.entity_names), device=model.site.device)).detach().clone()
        if of == "relations":
            return model.scorer.relation.detach().to(model.site.dtype).clone()
        raise InputError(f"of must be 'entities' or 'relations', got {of!r}")

    def _entity(self, name: str, place: str) -> torch.Tensor:
        return torch.tensor([self._asked.ids.entity(_name(name, place, self.entity_names), place)])

    def _relation(self, name: str) -> torch.Tensor:
        return torch.tensor([self._asked.ids.relation(_name(name, "relation", self.relation_names), "relation")])

    @staticmethod
    def _answers(best: Best, names: Sequence[str]) -> list[Answer]:
        columns = zip(best.answer[0].tolist(), best.score[0].tolist(), best.known[0].tolist(), strict=True)
        return [Answer(names[int(number)], score, known) for number, score, known in columns if score > -np.inf]


def load(
    run: str | Path,
    *,
    checkpoint: str | None = None,
    graph: str | Path | None = None,
    other_graph: str | Path | None = None,
    storage: str | None = None,
) -> Model:
    """Loads the trained model of a run folder into this process.

    Args:
        run: the run folder.
        checkpoint: the name of a checkpoint in it; None for the one that the run's result is of.
        graph: for a graph that was read from a folder: where its files are now, if they were moved.
        other_graph: a folder with train, valid and test files of the same relations and other entities, to ask about
            these; for a model that learns no entity vectors (nbfnet).
        storage: "memory"; "disk": entity rows are in a file in the run folder, so they need not fit into memory; None:
            where they were in training.
    Raises:
        InputError: no such run, a damaged one, or files of the graph that have changed since training.
    """
    place = GraphPlace(root=None, path=None if graph is None else str(graph), cache=None)
    options = SavedRunOptions(run=str(run), checkpoint=checkpoint, graph=place)
    runtime = Runtime.start(device="cpu", timeout_seconds=_TIMEOUT)
    other = None if other_graph is None else str(other_graph)
    return Model(Asked.load(options, runtime, other_graph=other, storage=storage))


def _allowed(known: bool, loops: bool, seen_in_slot: bool) -> Allowed:
    return Allowed(known=known, loops=loops, unseen=not seen_in_slot)


def _at_least_1(k: int) -> int:
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    return k


def _name(given: Any, place: str, names: Sequence[str]) -> str:
    """Raises InputError for what is no text, such as an id, which pyarrow would refuse by an error of its own."""
    if isinstance(given, str):
        return given
    of = "relation_names" if place == "relation" else "entity_names"
    raise InputError(f"{place} must be a name, such as {names[0]!r}, got {given!r}; the name of id i is model.{of}[i]")


def _triples(head: Any, relation: Any, tail: Any) -> list[tuple[Any, ...]]:
    """The triples that `Model.score` was given, in whatever form."""
    if relation is None and tail is None and not isinstance(head, str):
        triples = [tuple(triple) if isinstance(triple, list | tuple) else (triple,) for triple in head]
        if wrong := [triple for triple in triples if len(triple) != 3]:
            raise InputError(f"score needs triples (head, relation, tail), got {wrong[0]!r} among them")
        return triples
    parts = {"head": head, "relation": relation, "tail": tail}
    if missing := [name for name, part in parts.items() if part is None]:
        raise InputError(f"score needs a head, a relation and a tail, or a list of triples; without {missing[0]}")
    lists = {name: list(part) for name, part in parts.items() if _is_list(part)}
    if len(set(map(len, lists.values()))) > 1:
        lengths = ", ".join(f"{len(part)} of {name}" for name, part in lists.items())
        raise InputError(f"score needs lists of the same length, got {lengths}")
    count = len(next(iter(lists.values()))) if lists else 1
    columns = [lists.get(name, [part] * count) for name, part in parts.items()]
    return list(zip(*columns, strict=True))


def _is_list(part: Any) -> bool:
    return isinstance(part, Iterable) and not isinstance(part, str)


def _nearest(found: Nearest, names: Sequence[str]) -> list[Similar]:
    both = zip(found.id.tolist(), found.nearness.tolist(), strict=True)
    return [Similar(names[int(number)], near) for number, near in both]
