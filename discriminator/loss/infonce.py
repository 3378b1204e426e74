"""InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4), with temperature, additive margin and log-q correction.

Margin and learned temperature are those of SimKGC (Wang et al., ACL 2022). With the correction and temperature 1 it is
sampled softmax (Jean et al., On using very large target vocabulary for neural machine translation, ACL 2015).
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from discriminator.loss.compiled import loss_of_scores
from discriminator.loss.loss import Loss, Scores, proposal_of
from discriminator.loss.softmax import SOFTMAX
from graph.errors import InputError


class InfoNCE(Loss):
    """-log of the share of the positive, e^((s - margin) / temperature), in the sum of this and of the negatives.

    Args:
        margin: subtracted from the positive's score; at least 0.
        temperature: divides the scores; where it starts if it is learned.
        learn_temperature: as the place between the two bounds in logarithms, by a sigmoid, so that it never comes to
            either. Rows that are free can scale their scores as well, so without bounds both might go on and on.
        least_temperature: bound of a learned temperature; above 0.
        greatest_temperature: likewise.
        log_q: subtract log q, the log-probability of drawing that entity, from the positive's logit and from the
            negatives': the best logits are then log p(answer | query) plus a number of each query, whatever the sampler
            and N (Ma and Collins, EMNLP 2018), and else lower by log q. Negatives that happen to be the target are
            masked where the generator masks known facts (mask_known). Needs `Negatives.proposal`.
    """

    def __init__(
        self,
        *,
        margin: float,
        temperature: float,
        learn_temperature: bool,
        least_temperature: float,
        greatest_temperature: float,
        log_q: bool,
    ) -> None:
        if margin < 0:
            raise InputError(f"loss.margin must be at least 0, got {margin}")
        if temperature <= 0:
            raise InputError(f"loss.temperature must be positive, got {temperature}")
        super().__init__()
        self.margin = margin
        self.log_q = log_q
        self.fixed = temperature
        self.bounds = None
        if learn_temperature:
            if not 0 < least_temperature < temperature < greatest_temperature:
                raise InputError(
                    "loss.temperature, if learned, must be between loss.least_temperature, which is above 0, and "
                    f"loss.greatest_temperature, got {temperature} for {least_temperature} to {greatest_temperature}"
                )
            low, high = self.bounds = math.log(least_temperature), math.log(greatest_temperature)
            place = torch.tensor([math.log(temperature) - low], dtype=torch.float64) / (high - low)
            self.place = nn.Parameter(place.logit())

    @property
    def temperature(self) -> Float64[Tensor, "1"]:
        """As it is now."""
        if self.bounds is None:
            return torch.tensor([self.fixed], dtype=torch.float64)
        low, high = self.bounds
        return (low + (high - low) * self.place.sigmoid()).exp()

    @property
    def needs_proposal(self) -> str | None:
        """See `Loss.needs_proposal`."""
        return "loss.log_q=true" if self.log_q else None

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss`; InputError if `log_q` is true and the sampler does not know what it draws from."""
        positive, negative = scores.positive - self.margin, scores.negative
        # One a row, so that the gradient is summed over rows in float64, where their order does not show.
        scale = (1 / self.temperature).to(positive.device).expand(len(positive)).to(positive.dtype)
        positive, negative = positive * scale, negative * scale[:, None]
        if self.needs_proposal is not None:
            proposal = proposal_of(scores, self.needs_proposal)
            positive, negative = positive - proposal.target, negative - proposal.negative
        dtype = scores.negative.dtype
        return loss_of_scores(SOFTMAX, positive.to(dtype), negative.to(dtype), scores.known)
