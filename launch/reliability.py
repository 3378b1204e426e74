"""Says how reliable calibrated probabilities are, and what they refer to."""

from answers.calibration import Calibration


def reliability_of(calibration: Calibration) -> str:
    """A few lines and a table, to be printed."""
    found = calibration.reliability
    lines = [
        f"probability: by {calibration.method}, fitted on half of {calibration.positives:,} valid triples, each with "
        f"{calibration.negatives} corrupted heads and {calibration.negatives} corrupted tails, drawn uniformly. Known "
        "facts are no negatives; test facts are used for nothing else.",
        f"It is the probability of a fact where {calibration.prevalence:.1%} of the triples are facts, as here.",
        f"On the other half of the valid triples: Brier score {found.brier:.4f} (0 is perfect; sigmoid of the score "
        f"{found.brier_of_sigmoid:.4f}, always {calibration.prevalence:.1%}: {found.brier_of_prevalence:.4f})",
        f"{'probability':<12}{'predicted':>10}{'observed':>10}{'count':>10}",
    ]
    rows = zip(found.predicted.tolist(), found.observed.tolist(), found.count.tolist(), strict=True)
    for number, (predicted, observed, count) in enumerate(rows):
        values = f"{predicted:>10.3f}{observed:>10.3f}" if count else f"{'':>20}"
        lines.append(f"{f'{number / 10:.1f} to {(number + 1) / 10:.1f}':<12}{values}{count:>10,}")
    return "\n".join(lines)
