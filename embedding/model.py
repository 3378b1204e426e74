"""KGEModel: an entity table, relation rows, and the scoring function over them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from embedding.scoring.scoring import ScoringFunction
from embedding.table import EmbeddingTable
from graph.batch import Batch
from graph.counter_random import combine, random_uniform, stream
from graph.errors import InputError
from graph.partition import EntityPlacement


@dataclass(frozen=True)
class ModelSite:
    """Where a model lives: everything that it does not choose itself."""

    placement: EntityPlacement
    num_relations: int
    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype
    seed: int


class TripleScorer(nn.Module):
    """The dense part of a model, replicated on every rank: relation rows and the scoring function.

    Relation rows are kept in float64 and rounded when used: ranks add their gradients up in an order that depends on
    how many they are, and float64 makes the difference too small to survive the rounding.
    """

    def __init__(self, scoring: ScoringFunction, relation: Float64[Tensor, "R_ R"], dtype: torch.dtype) -> None:
        super().__init__()
        self.scoring = scoring
        self.relation = nn.Parameter(relation)
        self.dtype = dtype

    def relation_rows(self, relation: Int64[Tensor, " B"]) -> Float[Tensor, "B R"]:
        """The rows of these relations in the entities' type."""
        return nn.functional.embedding(relation, self.relation).to(self.dtype)

    def forward(
        self,
        anchor: Float[Tensor, "B E"],
        relation: Int64[Tensor, " B"],
        target: Float[Tensor, "B E"] | None,
        candidates: Float[Tensor, "C N E"],
        head_rows: int,
    ) -> tuple[Float[Tensor, " B"] | None, Float[Tensor, "B N"]]:
        """Scores of the positives, and of the triples with each candidate in the target's place.

        Args:
            target: the entity that candidates replace; None if the positives' scores are not wanted.
            head_rows: the first so many triples have the head replaced, the others the tail.
        """
        rows = self.relation_rows(relation)
        head_chunks = head_rows * len(candidates) // max(len(anchor), 1)
        heads = self.scoring.score_heads(anchor[:head_rows], rows[:head_rows], candidates[:head_chunks])
        tails = self.scoring.score_tails(anchor[head_rows:], rows[head_rows:], candidates[head_chunks:])
        positive = None
        if target is not None:
            head = torch.cat([target[:head_rows], anchor[head_rows:]])
            tail = torch.cat([anchor[:head_rows], target[head_rows:]])
            positive = self.scoring.score(head, rows, tail)
        return positive, torch.cat([heads, tails])


class KGEModel:
    """A knowledge-graph embedding on one rank or many; what it computes does not depend on how many.

    Args:
        name: which player it is ("discriminator", "generator"): part of the key of its initial values.
        dim: numbers in an entity vector; what it means exactly is the scoring function's.
        scoring: makes the scoring function from `dim`.
        max_norm: every part of an entity row and of a relation row is scaled back to this L2 norm after an update
            (Bordes et al. 2013; KBGAN: 1); None leaves them free.
        init_range: entity rows start uniform in +- this; None takes the scoring function's own.
    """

    def __init__(
        self,
        site: ModelSite,
        *,
        name: str,
        dim: int,
        scoring: Callable[[int], ScoringFunction],
        max_norm: float | None,
        init_range: float | None,
    ) -> None:
        if dim < 1:
            raise InputError(f"{name}.dim must be at least 1, got {dim}")
        if max_norm is not None and max_norm <= 0:
            raise InputError(f"{name}.max_norm must be positive or null, got {max_norm}")
        if init_range is not None and init_range <= 0:
            raise InputError(f"{name}.init_range must be positive or null, got {init_range}")
        self.site = site
        self.name = name
        self.max_norm = max_norm
        self.init_range = init_range
        self.scoring = scoring(dim)
        self.reset()

    def reset(self) -> None:
        """Gives every parameter its initial value, a function of (seed, name, entity or relation) alone."""
        site, scoring = self.site, self.scoring
        self.entity = EmbeddingTable(
            f"{self.name} entity",
            site.placement,
            scoring.entity_width,
            rank=site.rank,
            world_size=site.world_size,
            init_range=scoring.entity_init_range() if self.init_range is None else self.init_range,
            seed=site.seed,
            dtype=site.dtype,
            device=site.device,
        )
        counter = combine(torch.arange(site.num_relations)[:, None], torch.arange(scoring.relation_width))
        uniform = random_uniform(stream(f"{self.name} relation", site.seed), counter).to(site.device)
        self.scorer = TripleScorer(
            scoring.to(site.device), (2 * uniform - 1) * scoring.relation_init_range(), site.dtype
        )
        self._replicated: nn.Module = _replicate(self.scorer) if site.world_size > 1 else self.scorer
        self.project()

    def score(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> tuple[Float[Tensor, " B"], Float[Tensor, "B N"]]:
        """Scores of the positives, and with each entity in the corrupted place; one look-up. Collective."""
        size = len(batch.head)
        rows = self.entity(torch.cat([batch.anchor, batch.target, entity.flatten()]))
        anchor, target = rows[:size], rows[size : 2 * size]
        candidates = rows[2 * size :].view(*entity.shape, self.entity.width)
        positive, negative = self._replicated(anchor, batch.relation, target, candidates, batch.head_rows)
        return positive, negative

    def score_candidates(self, batch: Batch, entity: Int64[Tensor, "C M"]) -> Float[Tensor, "B M"]:
        """Scores with each entity in the corrupted place. Collective."""
        size = len(batch.head)
        rows = self.entity(torch.cat([batch.anchor, entity.flatten()]))
        candidates = rows[size:].view(*entity.shape, self.entity.width)
        return self._replicated(rows[:size], batch.relation, None, candidates, batch.head_rows)[1]

    @torch.no_grad()
    def project(self, row: Int64[Tensor, " K"] | None = None) -> None:
        """Scales rows back into the ball of `max_norm`: these rows of the block, or all, and all relations."""
        if self.max_norm is None:
            return
        weight = self.entity.weight
        if row is None:
            _clip_parts(weight, self.scoring.entity_parts, self.max_norm)
        else:
            touched = weight[row]
            _clip_parts(touched, self.scoring.entity_parts, self.max_norm)
            weight[row] = touched
        _clip_parts(self.scorer.relation, self.scoring.relation_parts, self.max_norm)


def _clip_parts(rows: Float[Tensor, "K W"], parts: dict[str, int], max_norm: float) -> None:
    for part in rows.split(list(parts.values()), dim=1):
        norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
        part.mul_(max_norm / norm.clamp(min=max_norm))


def _replicate(scorer: TripleScorer) -> DistributedDataParallel:
    replicated = DistributedDataParallel(scorer)
    # DDP would average; losses here are shares of a global mean, so gradients are to be added.
    replicated.register_comm_hook(None, _add_gradients)
    return replicated


def _add_gradients(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda future: future.value()[0])
