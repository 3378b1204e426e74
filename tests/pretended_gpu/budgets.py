"""Budgets: how many host syncs and kernels training steps of some configurations, and ranking, may take on a GPU.

Measured on the pretended GPU. A step that waits once more fails a test, with the line that waits. A step that waits
less fails too, until its budget is lowered here: so the table is what docs/gpu.md says that it is.
"""

from dataclasses import dataclass

from tests.pretended_gpu.counting import Counts

_SHARED = ("generator=uniform", "generator.num_negatives=32", "trainer.chunk_size=64")
_PATHS = ("discriminator=nbfnet", "loss=softmax", "optimizer=lazy_adam", "discriminator.scoring.layers=2")


@dataclass(frozen=True)
class Budget:
    """Of a training step between two lines of metrics."""

    options: tuple[str, ...]
    syncs: int
    kernels: int
    """At most; an estimate, see counting.py."""
    with_triton: int | None = None
    """The same with Triton's kernels, each of which counts as one; None: not counted."""


BUDGETS = {
    "TransE L1, shared pool, self-adversarial": Budget(
        (*_SHARED, "discriminator=transe", "loss=self_adversarial", "optimizer=rowwise_adagrad"), 0, 156, 30
    ),
    "ComplEx, shared pool, both sides, softmax": Budget(
        (*_SHARED, "discriminator=complex", "loss=softmax", "optimizer=rowwise_adagrad", "trainer.sides=both"),
        0,
        177,
        30,
    ),
    "ComplEx, own negatives, softmax": Budget(
        ("generator=uniform", "discriminator=complex", "loss=softmax", "optimizer=lazy_adam"), 0, 188
    ),
    "RotatE, shared pool, self-adversarial": Budget(
        (*_SHARED, "discriminator=rotate", "loss=self_adversarial", "optimizer=rowwise_adagrad"), 0, 216
    ),
    "KBGAN": Budget(("generator=kbgan", "discriminator=transe", "loss=margin_ranking", "optimizer=adam"), 0, 258, 60),
    "NSCaching": Budget(
        ("generator=nscaching", "discriminator=transe", "loss=margin_ranking", "optimizer=rowwise_adagrad"), 0, 324
    ),
    "KBGAN, a baseline for each query": Budget(
        (
            *("generator=kbgan", "baseline@generator.baseline=per_query"),
            *("discriminator=transe", "loss=margin_ranking", "optimizer=adam"),
        ),
        0,
        320,
    ),
    "uniform, InfoNCE": Budget(
        (*_SHARED, "discriminator=complex", "loss=infonce", "optimizer=rowwise_adagrad"), 0, 184
    ),
    "typed, NCE": Budget(("generator=typed", "discriminator=complex", "loss=nce", "optimizer=lazy_adam"), 0, 567),
    "NBFNet": Budget((*_SHARED, *_PATHS), 38, 870),
    "NBFNet, from some entities": Budget((*_SHARED, *_PATHS, "discriminator.scoring.most_edges=50"), 30, 952),
    "near-miss": Budget(
        (
            *("generator=near_miss", "generator.list_size=20"),
            *("discriminator=transe", "loss=margin_ranking", "optimizer=rowwise_adagrad"),
        ),
        0,
        526,
    ),
    "softmax over all entities": Budget(
        (
            "generator=uniform",
            "generator.num_negatives=1",
            "discriminator=complex",
            "loss=one_vs_all",
            "optimizer=adam",
        ),
        0,
        352,
    ),
}

_COUNTED = {
    "TransE L1, shared pool, self-adversarial": (3, 195),
    "KBGAN": (6, 335),
    "NSCaching": (9, 434),
}
_FIXED = {
    "TransE L1, shared pool, self-adversarial": (0, 215),
    "ComplEx, shared pool, both sides, softmax": (0, 239),
    "ComplEx, own negatives, softmax": (0, 250),
    "KBGAN": (0, 371),
    "NSCaching": (0, 472),
    "KBGAN, a baseline for each query": (0, 479),
    "near-miss": (0, 624),
}
_REPLICATED = {
    "TransE L1, shared pool, self-adversarial": (0, 173),
    "ComplEx, own negatives, softmax": (0, 207),
    "KBGAN": (0, 293),
    "NSCaching": (0, 398),
    "KBGAN, a baseline for each query": (0, 407),
    "softmax over all entities": (0, 338),
}


def _of_two(name: str, placement: str, syncs: int, kernels: int) -> Budget:
    return Budget((*BUDGETS[name].options, f"placement.{placement}"), syncs, kernels)


OF_TWO_RANKS = {
    **{f"{name}, counted": _of_two(name, "exchange=counted", *most) for name, most in _COUNTED.items()},
    **{f"{name}, in fixed pieces": _of_two(name, "exchange=null", *most) for name, most in _FIXED.items()},
    **{f"{name}, replicated": _of_two(name, "storage=replicated", *most) for name, most in _REPLICATED.items()},
}
"""What a step of each of two ranks may take, with half of the positives."""


RANKING = {
    "ComplEx": Budget((), 2, 60),
    "TransE L1": Budget((), 2, 50),
    "ComplEx, 8 blocks": Budget((), 2, 260),
}
"""What ranking 512 triples among the 14,541 entities of FB15k-237 may take, heads and tails together."""


def complaint(counts: Counts, steps: int, budget: Budget, what: str = "a step") -> str | None:
    """Why the counts of so many steps do not fit a budget, with the lines that are to blame; None if they fit."""
    syncs, kernels = counts.syncs.total() / steps, counts.kernels.total() / steps
    if syncs != budget.syncs:
        advice = "a line that is new here should not wait" if syncs > budget.syncs else "lower the budget"
        lines = "".join(f"\n  {number / steps:g} {line}" for line, number in counts.syncs.most_common())
        return f"{syncs:g} host syncs {what}, and the budget is {budget.syncs}: {advice}{lines}"
    if kernels > budget.kernels:
        lines = "".join(f"\n  {number / steps:g} {line}" for line, number in counts.kernels.most_common(30))
        return f"about {kernels:g} kernels {what}, and the budget is {budget.kernels}{lines}"
    return None
