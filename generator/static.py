"""Samplers whose negatives have a distribution that training does not change."""

from abc import abstractmethod

from jaxtyping import Float, Int64
from torch import Tensor

from generator.redraw import draw_unknown, refuse_shared
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least
from graph.batch import Batch, Negatives


class StaticSampler(NegativeSampler):
    """Draws with replacement, and one of three ways to treat those that make a train fact: count, mask or redraw them.

    Args:
        num_negatives: independent draws.
        mask_known: leave negatives that make a train fact out of the loss.
        redraw_known: draw them again, and mask those that `draw_unknown` could not replace, so that no train fact
            counts. Losses that correct for the proposal then have none, because the target cannot be drawn.
    """

    def __init__(self, context: SamplerContext, *, num_negatives: int, mask_known: bool, redraw_known: bool) -> None:
        super().__init__(context)
        self.num_negatives = num_negatives
        self.check_options()
        self.mask_known = mask_known
        self.redraw_known = redraw_known

    own_negatives = False
    """Whether `draw` gives each positive its own negatives at every chunk_size."""

    def check_options(self) -> None:
        """At least one draw."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)

    @abstractmethod
    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "C N"]:
        """Independent draws, for each chunk or for each positive; `purpose` names their random numbers."""

    @abstractmethod
    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """Of one of `draw`'s draws; as `log_q` otherwise."""

    @property
    def knows_proposal(self) -> bool:
        """Not of draws that were redrawn."""
        return not self.redraw_known

    def check_chunk_size(self, chunk_size: int) -> None:
        """Only negatives of each positive's own can be redrawn."""
        if self.redraw_known and not self.own_negatives:
            refuse_shared(chunk_size)

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """See `NegativeSampler.log_q`."""
        return None if self.redraw_known else self.log_probability(batch, entity)

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """See `NegativeSampler.propose`; `score` is not asked."""
        if self.redraw_known:
            return Negatives(*draw_unknown(self.context.known, batch, self.draw, "negatives"))
        entity = self.draw(batch, "negatives")
        known = self.context.known.contains(batch, entity) if self.mask_known else None
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))
