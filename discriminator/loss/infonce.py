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
    """-log(e^p / (e^p + sum e^n)), with p = (s(positive) - margin) / temperature and n = s(negative) / temperature.

    Args:
        margin: subtracted from the positive's score; at least 0.
        temperature: divides the scores; above 0. If it is learned, the initial value.
        learn_temperature: learn log(temperature), which a sigmoid keeps between the two bounds. Without bounds it could
            grow without end together with the embeddings, because these can scale the scores too.
        least_temperature: the lower bound of a learned temperature; above 0.
        greatest_temperature: the upper bound of a learned temperature.
        log_q: subtract log q, the log-probability of drawing the entity, from the logits of the positive and the
            negatives. The best logits are then log p(answer | query) plus a constant for each query, whatever the
            sampler and N (Ma and Collins, EMNLP 2018); without it, they are lower by log q. Needs
            `Negatives.proposal`. Negatives equal to the target are left out only if the sampler masks known facts.
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
        """The current temperature."""
        if self.bounds is None:
            return torch.tensor([self.fixed], dtype=torch.float64)
        low, high = self.bounds
        return (low + (high - low) * self.place.sigmoid()).exp()

    @property
    def needs_proposal(self) -> str | None:
        """See `Loss.needs_proposal`."""
        return "loss.log_q=true" if self.log_q else None

    def forward(self, scores: Scores) -> Float[Tensor, " B"]:
        """See `Loss.forward`; raises InputError if `log_q` is true and the sampler gives no proposal."""
        positive, negative = scores.positive - self.margin, scores.negative
        # One number for each row: the gradient is then summed over rows in float64, so that the order of rows, which
        # depends on the number of ranks, changes no digit.
        if self.bounds is None:  # made on the device: a GPU would be waited for to copy a number there
            scale = torch.full_like(positive, 1 / self.fixed)
        else:
            scale = (1 / self.temperature).to(positive.device).expand(len(positive)).to(positive.dtype)
        positive, negative = positive * scale, negative * scale[:, None]
        if self.needs_proposal is not None:
            proposal = proposal_of(scores, self.needs_proposal)
            positive, negative = positive - proposal.target, negative - proposal.negative
        dtype = scores.negative.dtype
        return loss_of_scores(SOFTMAX, positive.to(dtype), negative.to(dtype), scores.known)
