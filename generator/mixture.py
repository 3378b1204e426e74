"""A mixture of samplers: each draws some of the negatives of every positive."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from embedding.keyed_rows import KeyedRows
from generator.sampler import NegativeSampler, Reward, SamplerContext, ScoreCandidates, Statistic
from graph.answer_index import per_positive
from graph.batch import Batch, Negatives
from graph.counter_random import stream
from graph.errors import InputError

_Value = TypeVar("_Value")


class MixtureSampler(NegativeSampler):
    """Joins the negatives of several samplers, its parts: part k draws N_k of the N negatives of each positive.

    A part's weight is its share N_k / N. The numbers are fixed: that has less variance than choosing a part at random
    for each negative, and the same mean. If every part knows its distribution q_k, the proposal is
    sum_k N_k / N q_k for all negatives, whichever part drew them (the balance heuristic of Veach and Guibas 1995).

    `propose` returns entities [C, N], or [B, N] if a part gives each positive its own. The cost is the sum of the
    parts'. If one part masks train facts, they are masked in all parts. The corrupted side is chosen with the mean of
    the parts' probabilities. Each part learns from the rewards of its own negatives, but `Reward.mean` is the mean over
    all negatives.

    Args:
        parts: a function for each name that makes the part from its context. At most one part may have a model.
    """

    draws_resident = True
    """If all parts do, which the launcher checks."""

    def __init__(
        self, context: SamplerContext, *, parts: Mapping[str, Callable[[SamplerContext], NegativeSampler]]
    ) -> None:
        super().__init__(context)
        if not parts:
            raise InputError("generator.parts must name at least 1 sampler, got none")
        self.parts = {name: part_of(f"generator.parts.{name}", make, context) for name, make in parts.items()}
        self._take_parts()

    def _take_parts(self) -> None:
        """Takes over the model and the optimiser of the part that has a model, so that checkpoints save them."""
        learned = [name for name, part in self.parts.items() if part.model is not None]
        if len(learned) > 1:
            raise InputError(
                "generator.parts: at most one sampler may have a model, because a run saves one generator model; "
                f"got {', '.join(learned)}"
            )
        self.learned = self.parts[learned[0]] if learned else None
        if self.learned is not None:
            self.model, self.optimizer = self.learned.model, self.learned.optimizer

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """The mean of the parts' probabilities."""
        return torch.stack([part.head_probability for part in self.parts.values()]).mean(0)

    @property
    def learns(self) -> bool:
        """True if a part learns."""
        return any(part.learns for part in self.parts.values())

    @property
    def knows_proposal(self) -> bool:
        """True if every part knows its own."""
        return all(part.knows_proposal for part in self.parts.values())

    @property
    def suspects(self) -> bool:
        """True if a part marks suspected negatives."""
        return any(part.suspects for part in self.parts.values())

    @property
    def given(self) -> Int64[Tensor, "K 3"]:
        """Those of all parts."""
        return torch.cat([part.given for part in self.parts.values()])

    def check_chunk_size(self, chunk_size: int) -> None:
        """Checks every part; also refuses parts that need the reward of a whole pool."""
        self._refuse_pools()
        for name, part in self.parts.items():
            with errors_of(self.key_of(name)):
                part.check_chunk_size(chunk_size)

    def _refuse_pools(self) -> None:
        for name, part in self.parts.items():
            if part.rewards_pool:
                key = self.key_of(name)
                raise InputError(
                    f"{key} needs the reward of all candidates of its pool, but a mixture only has the rewards of "
                    f"negatives that were drawn: with KBGAN set {key}.estimator=reinforce"
                )

    def key_of(self, name: str) -> str:
        """The config key of a part."""
        return f"generator.parts.{name}"

    def undo(self) -> Callable[[], object] | None:
        """What takes the steps of all parts back; None if one part can't."""
        undone = [undo for part in self.parts.values() if (undo := part.undo()) is not None]
        if len(undone) < len(self.parts):
            return None

        def back() -> None:
            for each in undone:
                each()

        return back

    def refreshes(self, batch: Batch) -> bool:
        """True if a part does."""
        return any(part.refreshes(_own(batch, name)) for name, part in self.parts.items())

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Lets each part propose, and joins their negatives; see `NegativeSampler.propose`."""
        self._refuse_pools()
        self._drawn = {name: self.parts[name].propose(_own(batch, name), score) for name in self.taking_part(batch)}
        drawn = list(self._drawn.values())
        rows = max(len(each.entity) for each in drawn)
        entity = torch.cat([per_positive(each.entity, rows) for each in drawn], dim=1)
        return Negatives(
            entity,
            known=self._known(batch),
            log_prob=_joined([each.log_prob for each in drawn]),
            proposal=self.proposal(batch, entity),
            suspected=self._suspected(batch),
        )

    def taking_part(self, batch: Batch) -> list[str]:
        """The names of the parts that draw in this step; the same on every rank."""
        return list(self.parts)

    def _known(self, batch: Batch) -> Bool[Tensor, "B N"] | None:
        drawn = list(self._drawn.values())
        if all(each.known is None for each in drawn):
            return None
        facts = self.context.known
        known = [facts.contains(batch, each.entity) if each.known is None else each.known for each in drawn]
        return torch.cat(known, dim=1)

    def _suspected(self, batch: Batch) -> Bool[Tensor, "B N"] | None:
        drawn = list(self._drawn.values())
        if all(each.suspected is None for each in drawn):
            return None
        none = torch.zeros((len(batch.head), 1), dtype=torch.bool, device=batch.head.device)
        suspected = [none.expand(-1, _count(each)) if each.suspected is None else each.suspected for each in drawn]
        return torch.cat(suspected, dim=1)

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """See `NegativeSampler.log_q`."""
        total = sum(map(_count, self._drawn.values()))
        parts = []
        for name, drawn in self._drawn.items():
            log_q = self.parts[name].log_q(_own(batch, name), entity)
            if log_q is None:
                return None
            parts.append(log_q + math.log(_count(drawn) / total))
        return torch.stack(parts).logsumexp(0)

    def statistics(self) -> Mapping[str, Statistic]:
        """The statistics of the parts that learn, taken over all negatives of the mixture."""
        return {
            f"{name}.{key}": statistic
            for name in self._drawn
            if self.parts[name].learns
            for key, statistic in self.parts[name].statistics().items()
        }

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Passes each part the rewards of its own negatives, and the means of its statistics."""
        values = reward.value.split(list(map(_count, self._drawn.values())), dim=1)
        for (name, drawn), value in zip(self._drawn.items(), values, strict=True):
            if self.parts[name].learns:
                own = replace(reward, value=value.contiguous(), means=_of_part(name, reward.means))
                self.parts[name].feedback(_own(batch, name), drawn, own)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The metrics of the parts, as generator/PART/METRIC."""
        return {
            f"generator/{name}/{key.removeprefix('generator/')}": value
            for name in self._drawn
            for key, value in self.parts[name].metrics().items()
        }

    def state(self) -> dict[str, Tensor]:
        """The states of the parts, as PART.NAME."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        for name, part in self.parts.items():
            part.load_state(_of_part(name, state))

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """The keyed rows of the parts, as PART.NAME."""
        return {f"{name}.{key}": rows for name, part in self.parts.items() for key, rows in part.keyed_rows().items()}

    def start_stage(self) -> None:
        """Prepares every part for a new stage."""
        for part in self.parts.values():
            part.start_stage()
        if self.learned is not None:
            self.optimizer = self.learned.optimizer


def part_of(key: str, make: Callable[[SamplerContext], NegativeSampler], context: SamplerContext) -> NegativeSampler:
    """Makes a part. InputErrors that it raises name the part's config key."""
    with errors_of(key):
        return make(context)


@contextmanager
def errors_of(key: str) -> Iterator[None]:
    """Changes "generator" at the start of InputErrors raised inside to `key`, the config key of a part."""
    try:
        yield
    except InputError as error:
        text = str(error)
        own = text.removeprefix("generator") if text.startswith("generator") else f".{text}"
        raise InputError(f"{key}{own}") from error


def _of_part(name: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    """The values whose keys start with "NAME.", with that prefix removed."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _own(batch: Batch, name: str) -> Batch:
    """The batch with a seed for this part, so that two parts of the same class draw different negatives."""
    return replace(batch, seed=stream(name, batch.seed))


def _count(negatives: Negatives) -> int:
    return negatives.entity.shape[1]


def _joined(values: list[Float[Tensor, "B _"] | None]) -> Float[Tensor, "B N"] | None:
    given = [value for value in values if value is not None]
    return torch.cat(given, dim=1) if len(given) == len(values) else None
