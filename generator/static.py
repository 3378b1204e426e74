"""Base of samplers that draw from a fixed distribution: training does not change it."""

from abc import abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from generator.redraw import draw_unknown, refuse_shared
from generator.sampler import NegativeSampler, SamplerContext, ScoreCandidates, require_at_least, unchanged
from graph.batch import Batch, Negatives


class StaticSampler(NegativeSampler):
    """Draws negatives with replacement from a fixed distribution. Subclasses define it.

    A drawn negative may be a train fact. By default it counts like any other; two options change that. Entities are
    [C, N], shared by a chunk, or [B, N] where `own_negatives` is true.

    Args:
        num_negatives: independent draws for each positive.
        mask_known: leave negatives that are train facts out of the loss.
        redraw_known: replace negatives that are train facts by new draws. The few that still are train facts after all
            rounds of `draw_unknown` are masked. The target can then never be drawn, so `Negatives.proposal` is None.
    """

    def __init__(self, context: SamplerContext, *, num_negatives: int, mask_known: bool, redraw_known: bool) -> None:
        super().__init__(context)
        self.num_negatives = num_negatives
        self.check_options()
        self.mask_known = mask_known
        self.redraw_known = redraw_known

    own_negatives = False
    """True if `draw` returns [B, N]: each positive has its own negatives, whatever the chunk_size."""

    def check_options(self) -> None:
        """Requires num_negatives >= 1."""
        require_at_least("generator.num_negatives", self.num_negatives, 1)

    @abstractmethod
    def draw(self, batch: Batch, purpose: str) -> Int64[Tensor, "C N"]:
        """Independent draws, [C, N] shared by a chunk or [B, N] for each positive.

        Args:
            purpose: the name of the stream of random numbers; another name gives other draws.
        """

    @abstractmethod
    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """The log-probability of `draw`, in nats; arguments and result as in `NegativeSampler.log_q`."""

    @property
    def knows_proposal(self) -> bool:
        """False if train facts are redrawn: the distribution then depends on the train facts of each query."""
        return not self.redraw_known

    def check_chunk_size(self, chunk_size: int) -> None:
        """Refuses `redraw_known` where positives share their negatives."""
        if self.redraw_known and not self.own_negatives:
            refuse_shared(chunk_size)

    def log_q(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float[Tensor, "B N"] | None:
        """See `NegativeSampler.log_q`."""
        return None if self.redraw_known else self.log_probability(batch, entity)

    def undo(self) -> Callable[[], object] | None:
        """See `NegativeSampler.undo`."""
        return unchanged

    def propose(self, batch: Batch, score: ScoreCandidates) -> Negatives:
        """Draws, then masks or redraws train facts; does not call `score`."""
        if self.redraw_known:
            return Negatives(*draw_unknown(self.context.known, batch, self.draw, "negatives"))
        entity = self.draw(batch, "negatives")
        known = self.context.known.contains(batch, entity) if self.mask_known else None
        return Negatives(entity, known=known, proposal=self.proposal(batch, entity))
