"""Several samplers side by side: each gives some of a positive's negatives."""

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
from graph.batch import Batch, Negatives
from graph.counter_random import stream
from graph.errors import InputError
from graph.known import per_positive

_Value = TypeVar("_Value")


class MixtureSampler(NegativeSampler):
    """The negatives of all its parts; each part's weight is its share of the negatives.

    Fixed numbers of draws vary less than a part drawn anew for each negative, and have the same mean. The proposal is
    that of the whole, sum_k N_k / N q_k for all negatives whichever part drew them (the balance heuristic of Veach and
    Guibas, SIGGRAPH 1995), where every part knows its q_k.

    Train facts are masked in all parts if one of them masks. The side to corrupt is chosen with the mean of the parts'
    probabilities. Each part learns from the rewards of what it drew; the mean reward, which baselines keep, is that
    of all negatives. A positive gets its own row of negatives if a part has such rows.

    Args:
        parts: what makes each sampler from its context, by name; at most one of them has a model of its own.
    """

    def __init__(
        self, context: SamplerContext, *, parts: Mapping[str, Callable[[SamplerContext], NegativeSampler]]
    ) -> None:
        super().__init__(context)
        if not parts:
            raise InputError("generator.parts must name at least 1 sampler, got none")
        self.parts = {name: part_of(f"generator.parts.{name}", make, context) for name, make in parts.items()}
        self._take_parts()

    def _take_parts(self) -> None:
        """Shows the model of a part that learns, for the trainer to save it."""
        learned = [name for name, part in self.parts.items() if part.model is not None]
        if len(learned) > 1:
            raise InputError(
                "generator.parts: at most one sampler may have a model of its own, for a run saves one generator; "
                f"got {', '.join(learned)}"
            )
        self.learned = self.parts[learned[0]] if learned else None
        if self.learned is not None:
            self.model, self.optimizer = self.learned.model, self.learned.optimizer

    @property
    def head_probability(self) -> Float64[Tensor, " R"]:
        """The mean of the parts'."""
        return torch.stack([part.head_probability for part in self.parts.values()]).mean(0)

    @property
    def learns(self) -> bool:
        """Whether a part does."""
        return any(part.learns for part in self.parts.values())

    @property
    def knows_proposal(self) -> bool:
        """Whether every part does."""
        return all(part.knows_proposal for part in self.parts.values())

    @property
    def suspects(self) -> bool:
        """Whether a part does."""
        return any(part.suspects for part in self.parts.values())

    def check_chunk_size(self, chunk_size: int) -> None:
        """Every part must be able to, and learn from the negatives that it drew."""
        self._refuse_pools()
        for name, part in self.parts.items():
            with errors_of(self.key_of(name)):
                part.check_chunk_size(chunk_size)

    def _refuse_pools(self) -> None:
        for name, part in self.parts.items():
            if part.rewards_pool:
                key = self.key_of(name)
                raise InputError(
                    f"{key} asks for the reward of candidates that it did not draw, which a mixture has not: with "
                    f"KBGAN set {key}.estimator=reinforce"
                )

    def key_of(self, name: str) -> str:
        """The config key of a part."""
        return f"generator.parts.{name}"

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`."""
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
        """What the parts want to know, each of all negatives of the mixture."""
        return {
            f"{name}.{key}": statistic
            for name in self._drawn
            if self.parts[name].learns
            for key, statistic in self.parts[name].statistics().items()
        }

    def feedback(self, batch: Batch, negatives: Negatives, reward: Reward) -> None:
        """Gives each part the rewards of its own negatives, and the means that it asked for."""
        values = reward.value.split(list(map(_count, self._drawn.values())), dim=1)
        for (name, drawn), value in zip(self._drawn.items(), values, strict=True):
            if self.parts[name].learns:
                own = replace(reward, value=value.contiguous(), means=_of_part(name, reward.means))
                self.parts[name].feedback(_own(batch, name), drawn, own)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """Those of the parts, with their names."""
        return {
            f"generator/{name}/{key.removeprefix('generator/')}": value
            for name in self._drawn
            for key, value in self.parts[name].metrics().items()
        }

    def state(self) -> dict[str, Tensor]:
        """Those of the parts."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave."""
        for name, part in self.parts.items():
            part.load_state(_of_part(name, state))

    def keyed_rows(self) -> dict[str, KeyedRows]:
        """Those of the parts."""
        return {f"{name}.{key}": rows for name, part in self.parts.items() for key, rows in part.keyed_rows().items()}

    def start_stage(self) -> None:
        """A new stage for every part."""
        for part in self.parts.values():
            part.start_stage()
        if self.learned is not None:
            self.optimizer = self.learned.optimizer


def part_of(key: str, make: Callable[[SamplerContext], NegativeSampler], context: SamplerContext) -> NegativeSampler:
    """A part, whose errors name its own key."""
    with errors_of(key):
        return make(context)


@contextmanager
def errors_of(key: str) -> Iterator[None]:
    """Errors that a part raises inside name the part's key instead of the generator's."""
    try:
        yield
    except InputError as error:
        text = str(error)
        own = text.removeprefix("generator") if text.startswith("generator") else f".{text}"
        raise InputError(f"{key}{own}") from error


def _of_part(name: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    """The values whose names begin with a part's, under the names that the part gave them."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _own(batch: Batch, name: str) -> Batch:
    """The batch with random numbers of a part's own: two parts of one kind must not draw the same."""
    return replace(batch, seed=stream(name, batch.seed))


def _count(negatives: Negatives) -> int:
    return negatives.entity.shape[1]


def _joined(values: list[Float[Tensor, "B _"] | None]) -> Float[Tensor, "B N"] | None:
    given = [value for value in values if value is not None]
    return torch.cat(given, dim=1) if len(given) == len(values) else None
