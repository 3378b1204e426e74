"""The columns of a scorecard: what each figure means, how it is shown, and which values are better."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    title: str
    group: str
    show: Callable[[float], str]
    better: int
    """1 if higher is better, -1 if lower is, 0 if neither is."""
    meaning: str


def _digits(count: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{count}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.0f} %"


def _yes(value: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(value, f"{100 * value:.0f} % of seeds")


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


TO_TARGET = "to_target"
MODEL, FALSE, HARD, DIVERSE, COST = (
    "Improves the model",
    "Avoids false negatives",
    "Hardness",
    "Diversity",
    "Cost",
)
COLUMNS = (
    Column("valid_mrr", "MRR, valid", MODEL, _digits(4), 1, "Filtered MRR on validation, of the best checkpoint."),
    Column("test_mrr", "MRR, test", MODEL, _digits(4), 1, "Filtered MRR of the same checkpoint on test."),
    Column("test_hits10", "Hits@10", MODEL, _digits(3), 1, "Of the same checkpoint on test."),
    Column(
        "rising",
        "still rising",
        MODEL,
        _yes,
        0,
        "Whether the last validation was the best one, of several: such a run would gain from more training.",
    ),
    Column("known_true", "in train", FALSE, _percent, -1, "Share of negatives that are train facts."),
    Column(
        "hidden_true",
        "hidden",
        FALSE,
        _percent,
        -1,
        "Share of negatives that are true and in no split. Only the built-in graph knows them.",
    ),
    Column(
        "unseen_true",
        "held out",
        FALSE,
        _percent,
        -1,
        "Share of negatives that are facts of valid or test: for this report alone, nothing is chosen by it.",
    ),
    Column(
        "hardness",
        "rank",
        HARD,
        _digits(3),
        0,
        "Share of all entities that score below the negative for the same query, equal ones counted half: 0 easiest, "
        "1 hardest, .5 for uniform draws. Known answers are not filtered out.",
    ),
    Column(
        "active",
        "active",
        HARD,
        _share,
        0,
        "Share of negatives that weigh something in the loss: whose slope is above a tenth of what each would have if "
        "all of the positive's negatives scored far above it. In the margin ranking loss: a hinge that is not 0.",
    ),
    Column(
        "gradient_norm",
        "gradient",
        HARD,
        _digits(3),
        0,
        "L2 norm of the loss's slopes by the negatives' scores, of one positive; mean over positives.",
    ),
    Column(
        "distinct",
        "distinct",
        DIVERSE,
        _share,
        1,
        "Different entities among equally many draws for one query, as a share of the draws.",
    ),
    Column(
        "entropy",
        "entropy",
        DIVERSE,
        _digits(3),
        1,
        "Entropy of the draws of all queries together, by log of entities.",
    ),
    Column("coverage", "coverage", DIVERSE, _share, 1, "Share of entities that were drawn for any query."),
    Column(
        "nce_error",
        "NCE error",
        DIVERSE,
        _digits(2),
        -1,
        "Expected squared error of a score learned from these negatives by noise-contrastive estimation, over the true "
        "answers, relative to uniform negatives; above 1 is worse. See below for what this takes for granted.",
    ),
    Column(
        "candidates",
        "scored, M",
        COST,
        lambda value: f"{value / 1e6:.1f}",
        0,
        "Millions of candidates scored, in all stages.",
    ),
    Column("epochs", "epochs", COST, _digits(0), 0, "Of the last stage, which the budget allowed."),
    Column("seconds", "train s", COST, _digits(0), -1, "Seconds of all training steps; without validation."),
    Column("step_ms", "ms a step", COST, _digits(1), -1, "Median of a step of the last stage."),
    Column(
        TO_TARGET,
        "s to target",
        COST,
        _digits(0),
        -1,
        "Seconds of training steps, pre-training included, until validation MRR first was at the target: 90 % of the "
        "best sampler's, written below the table. A dash: not with every seed.",
    ),
    Column("peak_mb", "peak MB", COST, _digits(0), -1, "Most memory that a rank's process (or its GPU) held."),
)
FIGURES = tuple(column.key for column in COLUMNS if column.key != TO_TARGET)
"""The figures of a single run; the target is of all runs that are compared."""
MEASURED = tuple(column.key for column in COLUMNS if column.group in {FALSE, HARD, DIVERSE})
"""The figures that `quality` measures: means over the validations of the last stage."""
