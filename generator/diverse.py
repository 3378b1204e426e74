"""Negatives that are hard and unlike each other, with one option from uniform draws to the hardest candidates.

Similarity is penalised as in maximal marginal relevance (Carbonell and Goldstein, The use of MMR, diversity-based
reranking for reordering documents and producing summaries, SIGIR 1998): a candidate loses value by its similarity to
the most similar candidate that is already chosen.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from generator.distinct_draws import LAST, repeated
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives
from graph.counter_random import gumbel
from graph.errors import InputError
from kernels.largest import largest


class DiverseSampler(NegativeSampler):
    """Chooses N candidates from a uniform pool, one after the other, each time the candidate of highest value:

        value = hardness * score + (1 - hardness) * (noise - hardness * repulsion * similarity)

    The rule is ours, after maximal marginal relevance (Carbonell and Goldstein 1998). The score is the discriminator's,
    standardised to mean 0 and standard deviation 1 over the pool. The noise is Gumbel noise. The similarity is the
    largest cosine between the candidate's row, in the trained model, and the row of a candidate that is already chosen.

    hardness=0 is a uniform draw without replacement. hardness=1 takes the candidates of highest score. In between, with
    repulsion=0, it draws without replacement from the softmax of hardness / (1 - hardness) * score.

    `propose` returns entities [B, N]: each positive has its own. The pool [C, M] and its similarities [C, M, M] are
    shared by a chunk. A step costs M scores for each positive, beside those of the negatives.

    Args:
        num_negatives: negatives for each positive; distinct if the pool has enough distinct candidates.
        pool_size: M, the uniform candidates of a chunk, with replacement; at least num_negatives.
        hardness: from 0 (uniform) to 1 (highest scores).
        repulsion: the weight of the similarity, relative to the noise and to the hardness; at least 0.
        mask_known: choose candidates that make a train fact only if the pool has too few others. The loss then leaves
            these out.
    """

    def __init__(
        self,
        context: SamplerContext,
        *,
        num_negatives: int,
        pool_size: int,
        hardness: float,
        repulsion: float,
        mask_known: bool,
    ) -> None:
        super().__init__(context)
        context.require_vectors()
        if not 0 <= hardness <= 1:
            raise InputError(f"generator.hardness must be from 0 to 1, got {hardness}")
        if repulsion < 0:
            raise InputError(f"generator.repulsion must be at least 0, got {repulsion}")
        self.num_negatives = num_negatives
        self.pool_size = pool_size
        self.hardness = hardness
        self.penalty = (1 - hardness) * hardness * repulsion
        self.mask_known = mask_known
        self.check_options()

    def check_options(self) -> None:
        """Requires 1 <= num_negatives <= pool_size."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)
        require_at_least("generator.pool_size", self.pool_size, self.num_negatives)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Scores a pool and chooses from it; see `NegativeSampler.propose`."""
        pool = batch.integers("candidates", self.pool_size, self.context.num_entities)
        chunk = torch.arange(len(pool), device=pool.device).repeat_interleave(batch.chunk_size)
        noise = gumbel(batch.uniform_per_positive("noise", self.pool_size))
        value = self.hardness * _standardised(score(pool)) + (1 - self.hardness) * noise
        value = value.masked_fill(repeated(pool)[chunk], LAST)
        known = self.context.known.contains(batch, pool) if self.mask_known else None
        if known is not None:
            value = value.masked_fill(known, 2 * LAST)
        similarity = self._similarity(pool)
        pick = _choose(value, similarity, chunk, self.num_negatives, self.penalty)
        self._chosen = similarity, chunk, pick
        return Negatives(
            pool[chunk].gather(1, pick), None if known is None else known.gather(1, pick), pool=pool, pick=pick
        )

    @torch.no_grad()
    def _similarity(self, pool: Int64[Tensor, "C M"]) -> Float[Tensor, "C M M"]:
        """The cosine between the rows of each pair of candidates in a pool."""
        assert self.context.player is not None
        rows = normalize(self.context.player.entity(pool), dim=2)
        return rows @ rows.transpose(1, 2)

    def metrics(self) -> dict[str, Float[Tensor, " B"]]:
        """The mean cosine over all pairs of negatives of a positive; 1 if there is only one negative."""
        similarity, chunk, pick = self._chosen
        among = similarity[chunk[:, None, None], pick[:, :, None], pick[:, None]]
        own = torch.eye(self.num_negatives, dtype=torch.bool, device=among.device)
        pairs = max(self.num_negatives * (self.num_negatives - 1), 1)
        mean = among.masked_fill(own, 0.0).sum((1, 2)) / pairs
        return {"generator/similarity": mean if self.num_negatives > 1 else torch.ones_like(mean)}


def _standardised(score: Float[Tensor, "B M"]) -> Float64[Tensor, "B M"]:
    """Scores with mean 0 and standard deviation 1 in each row; all 0 where a row's scores are equal."""
    score = score.double()
    score = score - score.mean(1, keepdim=True)
    spread = score.square().mean(1, keepdim=True).sqrt()
    return torch.where(spread > 0, score / spread, 0.0)


def _choose(
    value: Float64[Tensor, "B M"],
    similarity: Float[Tensor, "C M M"],
    chunk: Int64[Tensor, " B"],
    count: int,
    penalty: float,
) -> Int64[Tensor, "B N"]:
    """Columns of the pool, chosen one by one: the highest value minus `penalty` times the largest similarity so far."""
    if penalty == 0:
        return largest(value, count)
    value, closest = value.clone(), torch.full_like(value, -1)
    picks = []
    for _ in range(count):
        pick = (value - penalty * closest).argmax(1)
        picks.append(pick)
        value.scatter_(1, pick[:, None], -torch.inf)
        closest = torch.maximum(closest, similarity[chunk, pick])
    return torch.stack(picks, dim=1)
