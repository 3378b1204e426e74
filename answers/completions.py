"""Answers queries by a trained model: the best tails, heads and relations; the scores and ranks of triples."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from answers.best import PLAIN, Allowed, Best, TripleScores
from answers.entity_queries import EntityQueries, best_entities
from embedding.model import KGEModel
from graph.errors import InputError
from graph.known import KnownFacts
from graph.slots import Slots
from trainer.evaluate import RankingEvaluator
from trainer.progress_bar import progress_bar
from trainer.runtime import Runtime

_PAIR_NUMBERS = 1 << 22
"""Most numbers in an intermediate tensor while triples are scored: 16 MB in float32."""
_MOST_PAIRS = 1 << 18
"""Pairs (query, relation) whose scores are held at a time."""
_MEMORY_MB = 256
"""For scores while triples are ranked; the ranks do not depend on it."""


class Completions:
    """Answers queries by a trained model, on one rank or several. Entities and relations are ids, on the CPU.

    All methods are collective: every rank gives the same queries, scores its own part of the table, and gets the same
    answers. They do not depend on the number of ranks.

    With reciprocal relations, the heads of (r, t) are scored as tails of (t, r'), as in training and ranking. Relations
    and whole triples are scored as tails of (h, r), so their scores can't be compared with those of heads.

    Args:
        model: the trained model.
        known: the facts of train, valid and test, on the model's device.
        slots: the entities that train has in each slot.
        runtime: the ranks.

    Example:
        completions = Completions(run.discriminator, run.all_known, Slots.of(run.context.statistics), run.runtime)
        best = completions.tails(torch.tensor([3]), torch.tensor([0]), count=10)
        best.answer[0], best.score[0]  # the ids of the ten best tails of entity 3 with relation 0, and their scores
    """

    def __init__(self, model: KGEModel, known: KnownFacts, slots: Slots, runtime: Runtime) -> None:
        self.model = model
        self.known = known
        self.slots = slots
        self.runtime = runtime

    def tails(
        self, head: Int64[Tensor, " Q"], relation: Int64[Tensor, " Q"], *, count: int, allowed: Allowed = PLAIN
    ) -> Best:
        """The best tails of each (head, relation), `count` of them or all that are allowed, if these are fewer.

        Raises:
            InputError: the model gives scores that are nan or infinite.
        """
        return self._entities(EntityQueries(head, relation, of_heads=False), count, allowed)

    def heads(
        self, relation: Int64[Tensor, " Q"], tail: Int64[Tensor, " Q"], *, count: int, allowed: Allowed = PLAIN
    ) -> Best:
        """The best heads of each (relation, tail); see `tails`."""
        return self._entities(EntityQueries(tail, relation, of_heads=True), count, allowed)

    def relations(
        self, head: Int64[Tensor, " Q"], tail: Int64[Tensor, " Q"], *, count: int, allowed: Allowed = PLAIN
    ) -> Best:
        """The best relations of each (head, tail), scored as tails of (head, relation); see `tails`."""
        number = self.model.site.num_relations
        best = Best.none(len(head), min(count, number))
        for place in torch.arange(len(head)).split(max(1, _MOST_PAIRS // max(1, number))):
            relation = torch.arange(number).repeat(len(place))
            h, t = (each[place].repeat_interleave(number) for each in (head, tail))
            known, score = self.are_known(h, relation, t), self.plain_scores(h, relation, t)
            if not score.isfinite().all():
                raise InputError(
                    f"the model {self.model.name!r} gives scores that are nan or infinite: it has diverged"
                )
            if not allowed.known:
                score = score.masked_fill(known, -torch.inf)
            if not allowed.unseen:
                score = score.masked_fill(~self._were_seen(h, relation, t), -torch.inf)
            # stable: of equal scores, those of lower ids come first
            score, answer = score.view(-1, number).sort(dim=1, descending=True, stable=True)
            there = score.isfinite()
            known, answer = known.view(-1, number).gather(1, answer) & there, answer.where(there, 0)
            best.put(place, Best(*(each[:, : best.answer.shape[1]] for each in (answer, score, known))))
        return best

    def scores(self, triples: Int64[Tensor, "T 3"]) -> TripleScores:
        """The scores of triples, and the filtered ranks of their heads and tails.

        Raises:
            InputError: the model gives scores that are nan or infinite.
        """
        evaluator = RankingEvaluator(self.known, self.runtime, memory_mb=_MEMORY_MB)
        ranks = evaluator.ranks(self.model, triples)
        realistic = [ranks.realistic(side) for side in ("head", "tail")]
        parts = triples.unbind(1)
        return TripleScores(self.plain_scores(*parts), *realistic, known=self.are_known(*parts))

    @torch.no_grad()
    def plain_scores(
        self,
        head: Int64[Tensor, " T"],
        relation: Int64[Tensor, " T"],
        tail: Int64[Tensor, " T"],
        *,
        as_heads: bool = False,
    ) -> Float64[Tensor, " T"]:
        """The scores of triples, without ranks.

        Args:
            as_heads: score the head as an answer of (relation, tail), not the tail as one of (head, relation). It makes
                a difference with reciprocal relations only.
        """
        model, scoring, found = self.model, self.model.scoring, [torch.empty(0, dtype=torch.float64)]
        size = max(1, _PAIR_NUMBERS // (scoring.pair_numbers + scoring.relation_width))
        for place in torch.arange(len(head)).split(size):
            h, r, t = (each[place].to(model.site.device) for each in (head, relation, tail))
            row, heads = model.asked(r, len(r) if as_heads else 0)
            heads_are_tails = as_heads and not heads
            first, last = model.entity(torch.cat([t, h] if heads_are_tails else [h, t])).chunk(2)
            found.append(scoring.score(first, model.scorer.relation_rows(row), last).double().cpu())
        return torch.cat(found)

    def are_known(
        self, head: Int64[Tensor, " T"], relation: Int64[Tensor, " T"], tail: Int64[Tensor, " T"]
    ) -> Bool[Tensor, " T"]:
        """Whether triples are facts of train, valid or test."""
        h, r, t = (each.to(self.model.site.device) for each in (head, relation, tail))
        return self.known.tails.contains(h, r, t[:, None])[:, 0].cpu()

    def _were_seen(
        self, head: Int64[Tensor, " T"], relation: Int64[Tensor, " T"], tail: Int64[Tensor, " T"]
    ) -> Bool[Tensor, " T"]:
        """Whether train has both entities in their slots of the relation."""
        sets, as_tail = self.slots.sets, relation + self.slots.num_relations
        return (sets.contains(relation, head[:, None]) & sets.contains(as_tail, tail[:, None]))[:, 0]

    def _entities(self, queries: EntityQueries, count: int, allowed: Allowed) -> Best:
        entities = len(self.model.entity.row_of_entity)
        best = Best.none(len(queries), min(count, entities))
        slot = queries.relation + (0 if queries.of_heads else self.slots.num_relations)
        # All queries at once, or those of one slot at a time, which have the same candidates.
        groups = [None] if allowed.unseen else slot.unique().tolist()
        pairs = entities * len(queries) if allowed.unseen else int(self.slots.sets.size(slot).sum())
        name = "heads" if queries.of_heads else "tails"
        with progress_bar(name, pairs // self.runtime.world_size, self.runtime) as progress:
            for group in groups:
                place = torch.arange(len(queries)) if group is None else torch.nonzero(slot == group)[:, 0]
                among, part = None if group is None else self.slots.entities(group), queries.of(place)
                found = best_entities(self.model, self.known, part, count, allowed, among=among, progress=progress)
                best.put(place, found)
        return best
