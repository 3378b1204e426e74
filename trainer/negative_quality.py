"""Measures the quality of a sampler's negatives on a fixed sample of positives during a run."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from generator.sampler import NegativeSampler
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.counter_random import paired_integers, stream
from graph.distinct_sample import in_random_order
from graph.errors import InputError
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownTriples
from graph.sampling import PositiveOrder
from trainer.diversity import coverage, distinct_share, pooled_entropy
from trainer.hardness import hardness
from trainer.nce_error import nce_squared_error
from trainer.observer import Observer
from trainer.runtime import Runtime
from trainer.stage import Cursor, Stage

_FAR_ABOVE = 50.0
"""A negative that scores this far above its positive and 0 gets the steepest slope of any loss."""
_ACTIVE = 0.1


@dataclass(frozen=True)
class Draws:
    """Negatives of a sample of positives, with what the loss makes of each."""

    entity: Int64[Tensor, "B D"]
    kept: Bool[Tensor, "B D"]
    """False where the sampler masks a negative, so that the loss leaves it out."""
    active: Bool[Tensor, "B D"]
    gradient_norm: Float64[Tensor, "B P"]
    """Of each positive in each proposal."""
    per_proposal: int
    """Negatives of a positive in one proposal."""

    def mean(self, value: Tensor) -> float:
        """The mean of `value` over the negatives that are not masked."""
        return float(torch.where(self.kept, value.double(), 0.0).sum() / self.kept.sum().clamp(min=1))


@dataclass(frozen=True)
class _SamplerState:
    """What proposing changes in a sampler: its state, and the rows that it keeps by key."""

    tensors: dict[str, Tensor]
    rows: dict[str, Tensor]

    @classmethod
    def of(cls, sampler: NegativeSampler) -> "_SamplerState":
        return cls(sampler.state(), {name: keyed.row.clone() for name, keyed in sampler.keyed_rows().items()})

    def restore(self, sampler: NegativeSampler) -> None:
        sampler.load_state(self.tensors)
        for name, keyed in sampler.keyed_rows().items():
            keyed.row.copy_(self.rows[name])


class NegativeQuality(Observer):
    """Proposes negatives for a sample of train facts, the same one at every moment, and measures them.

    The sampler proposes again and again until each positive has `draws` negatives, and its state is restored each time.
    So samplers with different numbers of negatives are compared by equally many draws. Negatives that the sampler masks
    are not measured, because the loss leaves them out.

    - known_true, hidden_true, unseen_true: the share that are facts of train; of no split (where a graph knows those);
      of valid or test. The last is a figure for the report alone: nothing is trained on or chosen by it.
    - hardness: see `hardness`.
    - active: the share whose slope in the loss is above a tenth of the slope that each would have if all negatives of
      the positive scored far above it. For the margin ranking loss: the share with a hinge that is not 0.
    - gradient_norm: L2 norm of these slopes over the negatives of a positive, averaged over positives.
    - distinct, entropy, coverage: see trainer/diversity.py; the last two of the draws of all positives together.
    - nce_error: the mean of `nce_squared_error` over the train answers of the sample's queries, divided by that of
      uniform draws. p_d of a query is equal over its train answers, p_n the counts of the draws, each mixed with the
      uniform distribution.

    All ranks measure the whole sample, so that figures are the same at every number of ranks.

    Args:
        train: the train facts, on the runtime's device.
        seed: the run's.
        positives: train facts in the sample; all of them if there are fewer.
        draws: negatives of each.
        data_smoothing: the share of the uniform distribution in p_d.
        noise_smoothing: the same in p_n, where 0 draws of an answer must not mean that it is never drawn.
    """

    def __init__(
        self,
        runtime: Runtime,
        graph: KnowledgeGraph,
        train: KnownTriples,
        seed: int,
        *,
        positives: int,
        draws: int,
        data_smoothing: float,
        noise_smoothing: float,
    ) -> None:
        for key, value in (("positives", positives), ("draws", draws)):
            if value < 1:
                raise InputError(f"quality.{key} must be at least 1, got {value}")
        for key, value in (("data_smoothing", data_smoothing), ("noise_smoothing", noise_smoothing)):
            if not 0 < value <= 1:
                raise InputError(f"quality.{key} must be above 0 and at most 1, got {value}")
        self.runtime = runtime
        self.num_entities = graph.num_entities
        self.seed = seed
        self.draws = draws
        self.data_smoothing = data_smoothing
        self.noise_smoothing = noise_smoothing
        self.sample = graph.train[in_random_order("measured positives", len(graph.train), positives, seed)].long()
        self.train = train
        self.facts = {"known_true": train, "unseen_true": self._index(torch.cat([graph.valid, graph.test]), graph)}
        if len(graph.hidden):
            self.facts["hidden_true"] = self._index(graph.hidden, graph)

    def _index(self, triples: Int64[Tensor, "T 3"], graph: KnowledgeGraph) -> KnownTriples:
        return KnownTriples.of(triples.to(self.runtime.device), graph.num_entities, graph.num_relations)

    @torch.no_grad()
    def measure(self, stage: Stage, cursor: Cursor) -> dict[str, float]:
        """Measures the stage's sampler; the top of this class lists the metrics. Collective."""
        batch = self._batch(stage, cursor)
        real = batch.weight > 0  # chunks are filled up
        drawn = self._draw(stage, batch)
        drawn = replace(drawn, kept=drawn.kept & real[:, None])
        count = torch.bincount(drawn.entity[drawn.kept], minlength=self.num_entities)
        values = {name: drawn.mean(facts.contains(batch, drawn.entity)) for name, facts in self.facts.items()}
        values["hardness"] = drawn.mean(hardness(stage.player.model, batch, drawn.entity, self.runtime))
        values["active"] = drawn.mean(drawn.active)
        values["gradient_norm"] = float(drawn.gradient_norm[real].mean())
        values["distinct"] = float(distinct_share(drawn.entity, drawn.kept, self.num_entities)[real].mean())
        values["entropy"] = pooled_entropy(count)
        values["coverage"] = coverage(count)
        values["nce_error"] = self._nce_error(batch, drawn, real)
        return {f"quality/{name}": value for name, value in values.items()}

    def _batch(self, stage: Stage, cursor: Cursor) -> Batch:
        """The sample as one batch of the stage's chunks, at the step that the stage has just done."""
        order, size = stage.order, stage.order.chunk_size
        step = max(cursor.stage_step - 1, 0)
        sample = PositiveOrder(
            self.sample,
            order.head_probability,
            batch_size=(-(-len(self.sample) // size) + 1) * size,
            chunk_size=size,
            sides=order.sides,
            seed=self.seed,
        ).batch(0)
        return replace(sample.to(self.runtime.device), step=step, epoch=step // order.steps_per_epoch)

    def _draw(self, stage: Stage, batch: Batch) -> Draws:
        entity, kept, active, norm = [], [], [], []
        per_proposal = 0
        for asked, negatives in self._proposals(stage, batch):
            own = per_positive(negatives.entity, len(batch.head))
            known = negatives.known
            taken = torch.ones_like(own, dtype=torch.bool) if known is None else ~known
            positive, score = stage.player.model.score(asked, negatives.entity)
            slope = stage.player.slopes(asked, negatives, positive, score).abs()
            highest = (positive.clamp(min=0) + _FAR_ABOVE)[:, None].expand_as(score)
            most = stage.player.slopes(asked, negatives, positive, highest).abs()
            entity.append(own)
            kept.append(taken)
            active.append((slope > _ACTIVE * most) & (slope > 0))
            norm.append(torch.where(taken, slope.double(), 0.0).square().sum(1).sqrt())
            per_proposal = own.shape[1]
        columns = slice(self.draws)
        chosen, taken, pushing = (torch.cat(part, dim=1)[:, columns] for part in (entity, kept, active))
        return Draws(chosen, taken, pushing, torch.stack(norm, dim=1), per_proposal)

    def _proposals(self, stage: Stage, batch: Batch) -> Iterator[tuple[Batch, Negatives]]:
        """Proposals until there are enough draws, each with random numbers of its own. Collective."""
        sampler, before = stage.sampler, _SamplerState.of(stage.sampler)
        state, drawn, number = before, 0, 0
        while drawn < self.draws:
            asked = replace(batch, seed=stream("measured negatives", self.seed, number))
            negatives = sampler.propose(asked, partial(stage.player.score_candidates, asked))
            yield asked, negatives
            # What a sampler makes before it first proposes takes long, and need be made but once here.
            if not state.tensors and sampler.state():
                state = _SamplerState.of(sampler)
            state.restore(sampler)
            drawn, number = drawn + negatives.entity.shape[1], number + 1
        before.restore(sampler)

    def _nce_error(self, batch: Batch, drawn: Draws, real: Bool[Tensor, " B"]) -> float:
        row, answer = self.train.answers(batch)
        row, answer = row[real[row]], answer[real[row]]
        answers = torch.bincount(row, minlength=len(real))[row]
        data = self._mixed(1 / answers.double(), self.data_smoothing)
        place = torch.arange(len(real), device=row.device)
        uniform = paired_integers(stream("uniform draws", self.seed), place, drawn.entity.shape[1], self.num_entities)
        error = {}
        for name, entity, kept in (
            ("sampler", drawn.entity, drawn.kept),
            ("uniform", uniform, torch.ones_like(drawn.kept)),
        ):
            share = _count(entity, kept, row, answer, self.num_entities).double() / kept.sum(1).clamp(min=1)[row]
            noise = self._mixed(share, self.noise_smoothing)
            error[name] = float(nce_squared_error(data, noise, drawn.per_proposal, 1).mean())
        return error["sampler"] / error["uniform"]

    def _mixed(self, probability: Float64[Tensor, " K"], share: float) -> Float64[Tensor, " K"]:
        return (1 - share) * probability + share / self.num_entities


def _count(
    entity: Int64[Tensor, "B D"],
    kept: Bool[Tensor, "B D"],
    row: Int64[Tensor, " K"],
    answer: Int64[Tensor, " K"],
    num_entities: int,
) -> Int64[Tensor, " K"]:
    """How often each answer is among the kept draws of its row."""
    pair = (torch.arange(len(entity), device=entity.device)[:, None] * num_entities + entity)[kept].sort().values
    wanted = row * num_entities + answer
    return torch.searchsorted(pair, wanted, right=True) - torch.searchsorted(pair, wanted)
