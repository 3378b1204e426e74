"""Uniform negatives (Bordes et al., Translating embeddings for modeling multi-relational data, NIPS 2013)."""

from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives


class UniformSampler(NegativeSampler):
    """Entities drawn uniformly, with replacement; head or tail is corrupted with equal chance.

    Args:
        num_negatives: drawn for each chunk and shared by its positives.
        mask_known: leave negatives that make a train fact out of the loss.
    """

    def __init__(self, context: SamplerContext, *, num_negatives: int, mask_known: bool) -> None:
        super().__init__(context)
        require_at_least("generator.num_negatives", num_negatives, 1)
        self.num_negatives = num_negatives
        self.mask_known = mask_known

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`."""
        entity = batch.integers("negatives", self.num_negatives, self.context.num_entities)
        return Negatives(entity, known=self.context.known.contains(batch, entity) if self.mask_known else None)
