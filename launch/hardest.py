"""Finds the hardest negatives of a run, for its page and its trackers."""

from collections.abc import Mapping
from dataclasses import dataclass

from answers.completions import Completions
from graph.known import KnownTriples
from graph.slots import Slots
from launch.build import Run
from reporting.hard_negatives import EACH, HardNegative, in_words, sampled_triples


@dataclass(frozen=True)
class HardestNegatives:
    """Finds, for a fixed sample of train triples, the best answers that are no facts of some splits.

    Example: `HardestNegatives.beside(run, ("train", "valid", "test")).find()`.
    """

    run: Run
    completions: Completions
    facts: Mapping[str, KnownTriples]
    """Facts that are not left out but marked, by the names that `HardNegative.fact_of` may have. On the CPU."""

    @classmethod
    def beside(cls, run: Run, splits: tuple[str, ...]) -> "HardestNegatives":
        """Leaves out the facts of these splits, and marks the others."""
        graph, known = run.graph, run.known(*splits)
        completions = Completions(run.discriminator, known, Slots.of(run.context.statistics), run.runtime)
        marked = [split for split in ("train", "valid", "test", "hidden") if split not in splits]
        facts = {
            split: KnownTriples(getattr(graph, split), graph.num_entities, graph.num_relations) for split in marked
        }
        return cls(run, completions, facts)

    def find(self) -> list[HardNegative]:
        """The hardest negatives by the model's present weights. Collective: the same on every rank."""
        found = []
        for side, triples in sampled_triples(self.run.graph).items():
            head, relation, tail = triples.unbind(1)
            if side == "head":
                best = self.completions.heads(relation, tail, count=EACH)
                marks = {name: each.heads.contains(tail, relation, best.answer) for name, each in self.facts.items()}
            else:
                best = self.completions.tails(head, relation, count=EACH)
                marks = {name: each.tails.contains(head, relation, best.answer) for name, each in self.facts.items()}
            score = self.completions.plain_scores(head, relation, tail, as_heads=side == "head")
            found += in_words(self.run.graph, side, triples, score, best.answer, best.score, marks)
        return found
