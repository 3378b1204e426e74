"""Noise-contrastive estimation (Gutmann and Hyvärinen, AISTATS 2010; for queries: Mnih and Teh, ICML 2012)."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from discriminator.loss.loss import Loss, Scores, proposal_of, sum_of_unknown


class NCE(Loss):
    """Tells facts from N negatives by the logit s - log(N q), where q is the probability of drawing that entity.

    -log sigmoid(s(positive) - log N q(positive)) - sum of log sigmoid(log N q(negative) - s(negative)). Its best scores
    are log p(answer | query) themselves, whatever the sampler; without the correction, as in `LogSigmoid`, they are
    lower by log q, and ranking punishes what was drawn often. N counts masked negatives too, for what is left of them
    is still met N q times. Where facts are masked nothing holds their scores down but the positives' own correction.

    Needs a generator with `Negatives.proposal`.
    """

    @property
    def needs_proposal(self) -> str:
        """See `Loss.needs_proposal`."""
        return "loss=nce"

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`; InputError if the sampler does not know what it draws from."""
        proposal, log_count = proposal_of(scores, self.needs_proposal), math.log(scores.negative.shape[1])
        positive = scores.positive - log_count - proposal.target
        negative = scores.negative - log_count - proposal.negative
        return softplus(-positive) + sum_of_unknown(softplus(negative), scores.known)
