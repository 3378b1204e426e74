"""Finds the hardest negatives of a run, for its page and its trackers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from answers.completions import Completions
from graph.known import KnownFacts, KnownTriples
from graph.slots import Slots
from launch.built_run import Run
from reporting.hard_negatives import EACH, HardNegative, in_words, sampled_triples


@dataclass(frozen=True)
class HardestNegatives:
    """Finds, for a fixed sample of train triples, the best answers that are not among some facts.

    Example: `HardestNegatives.of(run, run.all_known, marked=("hidden",)).find()`.
    """

    run: Run
    completions: Completions
    facts: Mapping[str, KnownTriples]
    """Facts that are not left out but marked, by the names that `HardNegative.fact_of` may have. On the CPU."""

    @classmethod
    def of(cls, run: Run, left_out: KnownFacts, *, marked: Sequence[str]) -> "HardestNegatives":
        """Leaves out some facts, and marks those of some splits: "valid", "test", or "hidden"."""
        graph = run.graph
        completions = Completions(run.discriminator, left_out, Slots.of(run.context.statistics), run.runtime)
        facts = {
            split: KnownTriples.of(getattr(graph, split), graph.num_entities, graph.num_relations) for split in marked
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
