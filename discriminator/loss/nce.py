"""Noise-contrastive estimation (Gutmann and Hyvärinen, AISTATS 2010; for queries: Mnih and Teh, ICML 2012)."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.loss import Loss, Scores, proposal_of, sum_of_unknown


class NCE(Loss):
    """Binary classification of a positive and N negatives by the logit s - log(N q), q the probability of the entity.

    -log sigmoid(s(positive) - log N q(positive)) - sum of log sigmoid(log N q(negative) - s(negative)). The best scores
    are log p(answer | query), whatever the sampler. Without the correction, as in `LogSigmoid`, they are lower by
    log q, so entities that are often drawn are ranked too low.

    N also counts negatives that are left out as known, because any other entity is still drawn N q times on average.
    Needs a sampler that gives `Negatives.proposal`.
    """

    @property
    def needs_proposal(self) -> str:
        """See `Loss.needs_proposal`."""
        return "loss=nce"

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss.forward`; raises InputError if the sampler gives no proposal."""
        proposal, log_count = proposal_of(scores, self.needs_proposal), math.log(scores.negative.shape[1])
        positive = scores.positive - log_count - proposal.target
        negative = scores.negative - log_count - proposal.negative
        return softplus(-positive) + sum_of_unknown(softplus(negative), scores.known)
