"""Turns scores into probabilities, fitted on valid triples and corrupted ones.

Tabacof and Costabello, Probability calibration for knowledge graph embedding models, ICLR 2020: without true negatives,
corrupted triples take their place, and Platt scaling or isotonic regression calibrates scores well.
"""

import importlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from answers.completions import Completions
from graph.counter_random import combine, random_bits, random_integers, stream
from graph.errors import InputError

METHODS = ("platt", "isotonic")
_MOST = 20_000
"""The most valid triples that are used; with more, the fit would hardly change."""
_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """How well probabilities agree with facts, on triples that were not used to fit.

    A bin has the triples with predicted probabilities from b / 10 to (b + 1) / 10. `predicted` is their mean
    probability, `observed` the share of facts among them; both are nan in a bin without triples.
    """

    predicted: Float64[Tensor, " 10"]
    observed: Float64[Tensor, " 10"]
    count: Int64[Tensor, " 10"]
    brier: float
    """Mean squared difference between probability and truth (1 for a fact, 0 for a corrupted triple); 0 is perfect."""
    brier_of_sigmoid: float
    """The same of the sigmoid of scores that were not calibrated."""
    brier_of_prevalence: float
    """The same if each triple has the share of facts as its probability."""

    @classmethod
    def of(
        cls, probability: Float64[Tensor, " T"], score: Float64[Tensor, " T"], fact: Bool[Tensor, " T"]
    ) -> "Reliability":
        """From the probabilities of triples, their scores, and whether they are facts."""
        truth = fact.double()
        place = (probability * _BINS).long().clamp(max=_BINS - 1)
        count = torch.bincount(place, minlength=_BINS)
        predicted, observed = (
            torch.bincount(place, weights=value, minlength=_BINS) / count for value in (probability, truth)
        )
        briers = [float((each - truth).square().mean()) for each in (probability, score.sigmoid(), truth.mean())]
        return cls(predicted, observed, count, *briers)


@dataclass(frozen=True)
class Calibration:
    """A function from scores to probabilities, and how good it is."""

    method: str
    scale: float
    """Platt: the probability is the sigmoid of scale x score + shift."""
    shift: float
    step_score: Float64[Tensor, " S"]
    """Isotonic: probabilities at these scores, which ascend, with straight lines between them; none for Platt."""
    step_probability: Float64[Tensor, " S"]
    positives: int
    """Valid triples, of which half were used to fit. Each counts twice: with corrupted heads and corrupted tails."""
    negatives: int
    """Corrupted triples that were drawn for each."""
    prevalence: float
    """The share of facts among the triples: the probability refers to a triple from such a mixture."""
    reliability: Reliability
    """On the other half."""

    def probability(self, score: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
        """The probability that a triple with this score is a fact; see `prevalence`."""
        return _probability(score, self.scale, self.shift, self.step_score, self.step_probability)


def _probability(score: Tensor, scale: float, shift: float, at: Tensor, value: Tensor) -> Float64[Tensor, "*s"]:
    if len(at):
        return torch.from_numpy(np.interp(score.numpy(), at.numpy(), value.numpy()))
    return (scale * score + shift).sigmoid()


def calibrate(
    completions: Completions, valid: Int64[Tensor, "V 3"], *, method: str, negatives: int, seed: int
) -> Calibration:
    """Fits probabilities to the scores of valid triples and of corrupted ones. Collective.

    Each valid triple is scored with its head corrupted and with its tail corrupted, by entities drawn uniformly.
    Corrupted triples that are facts of train, valid or test are no negatives; test facts are used for nothing else. The
    calibration is fitted on half of the valid triples, and measured on the others. Halves and draws are functions of
    the seed.

    Args:
        valid: at least 2 triples.
        method: "platt" or "isotonic".
        negatives: corrupted triples for each valid triple and side.
    Raises:
        InputError: scikit-learn is missing, or there are too few triples.
    """
    order = random_bits(stream("calibration", seed), torch.arange(len(valid))).argsort()[:_MOST]
    triples = valid[order]
    score, fact, number = _scored(completions, triples, negatives, seed)
    fits = number < (len(triples) + 1) // 2
    for part in (fits, ~fits):
        if not fact[part].any() or fact[part].all():
            raise InputError(
                f"probability={method} needs facts and corrupted triples in both halves of valid: {len(valid)} valid "
                "triples are too few, or all corrupted ones are facts"
            )
    fitted = (_platt if method == "platt" else _isotonic)(score[fits], fact[fits])
    probability = _probability(score[~fits], *fitted)
    return Calibration(
        method,
        *fitted,
        positives=len(triples),
        negatives=negatives,
        prevalence=float(fact.double().mean()),
        reliability=Reliability.of(probability, score[~fits], fact[~fits]),
    )


def _scored(
    completions: Completions, triples: Int64[Tensor, "P 3"], negatives: int, seed: int
) -> tuple[Float64[Tensor, " T"], Bool[Tensor, " T"], Int64[Tensor, " T"]]:
    """Scores of triples and corrupted ones, whether they are facts, and the number of the triple they were made of."""
    number = torch.arange(len(triples))
    own = number.repeat_interleave(negatives)
    counter = combine(own, torch.arange(negatives).repeat(len(triples)))
    found = []
    for side, column in (("head", 0), ("tail", 2)):
        corrupted = triples[own].clone()
        entities = len(completions.model.entity.row_of_entity)
        corrupted[:, column] = random_integers(stream(f"calibration {side}", seed), counter, entities)
        wrong = ~completions.are_known(*corrupted.unbind(1))
        both, of = torch.cat([triples, corrupted[wrong]]), torch.cat([number, own[wrong]])
        score = completions.plain_scores(*both.unbind(1), as_heads=side == "head")
        found.append((score, torch.arange(len(both)) < len(triples), of))
    score, fact, of = (torch.cat(each) for each in zip(*found, strict=True))
    if not score.isfinite().all():
        raise InputError(f"the model {completions.model.name!r} gives scores that are nan or infinite: it has diverged")
    return score, fact, of


def require_scikit_learn(method: str) -> None:
    """Raises InputError if scikit-learn, which makes the fit, is not installed."""
    try:
        importlib.import_module("sklearn")
    except ImportError as error:
        raise InputError(
            f"probability={method} needs scikit-learn: pip install 'scikit-learn>=1.4', or this project with its extra "
            "`calibration`"
        ) from error


_Fitted = tuple[float, float, Tensor, Tensor]


def _platt(score: Float64[Tensor, " T"], fact: Bool[Tensor, " T"]) -> _Fitted:
    """Logistic regression of facts by scores (Platt, Probabilistic outputs for support vector machines, 1999)."""
    from sklearn.linear_model import LogisticRegression

    # Of unit size, because the solver's steps depend on it.
    middle, size = float(score.mean()), max(float(score.std()), 1e-12)
    fit = LogisticRegression(C=math.inf).fit(((score - middle) / size)[:, None].numpy(), fact.numpy())
    scale = float(fit.coef_[0, 0]) / size
    none = torch.empty(0, dtype=torch.float64)
    return scale, float(fit.intercept_[0]) - scale * middle, none, none


def _isotonic(score: Float64[Tensor, " T"], fact: Bool[Tensor, " T"]) -> _Fitted:
    """The best function that never falls (Zadrozny and Elkan, KDD 2002)."""
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0.0, y_max=1.0).fit(score.numpy(), fact.double().numpy())
    at, value = (
        torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in (fit.X_thresholds_, fit.y_thresholds_)
    )
    return 0.0, 0.0, at, value
