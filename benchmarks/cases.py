"""What is measured: each case's name, and the options of the run behind it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch


class Kind(StrEnum):
    """What a case does with its run."""

    TRAIN = "train"
    RANK = "rank"
    RANKS = "ranks"
    MEMORY = "memory"


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    name: str
    kind: Kind
    overrides: tuple[str, ...]
    """Of conf/train.yaml, but for the graph."""
    model: str
    """A key of `MODELS`; what the peer trains and what decides which limit counts."""
    loss: str | None = None
    """A key of `LOSSES`, if the peer has the same to train with."""
    shared: bool = True
    """Whether positives share pools, so that scores may be matrix products."""
    beside: "Case | None" = None
    """Measured in turns with this one in the same process, for the ratio of their times."""


MODELS = {
    "transe_l1": ("discriminator=transe", "discriminator.scoring.norm=1", "discriminator.max_norm=null"),
    "transe_l2": ("discriminator=transe", "discriminator.scoring.norm=2", "discriminator.max_norm=null"),
    "distmult": ("discriminator=distmult",),
    "complex": ("discriminator=complex",),
    "rotate": ("discriminator=rotate",),
}
PRODUCTS = ("transe_l2", "distmult", "complex")
"""The models whose scores against a shared pool are matrix products."""
LOSSES = {
    "log_sigmoid": ("loss=log_sigmoid", "loss.margin={margin}"),
    "self_adversarial": ("loss=self_adversarial", "loss.margin={margin}"),
    "softmax": ("loss=softmax",),
}
DIMENSION, BATCH, NEGATIVES, CHUNK = 200, 1024, 256, 256
_QUICK = (
    "train/*/self_adversarial/shared",
    "train/*/self_adversarial/shared_bf16",
    "train/transe_l1/self_adversarial/own",
    "train/complex/self_adversarial/own",
    "kbgan/*",
    "rank/*",
    "ranks/complex",
    "memory/complex",
)
"""What a quick look takes if nothing else is asked for: two or three minutes of two cores."""


def select(filters: Iterable[str], *, quick: bool) -> list[Case]:
    """The cases whose name has one of these texts in it; without any, all, or the few of a quick look."""
    filters = list(filters)
    if filters:
        return [case for case in CASES if any(text in case.name for text in filters)]
    return [case for case in CASES if not quick or any(fnmatch(case.name, pattern) for pattern in _QUICK)]


def find(name: str) -> Case:
    """The case of this name."""
    return next(case for case in CASES if case.name == name)


def model_options(model: str) -> tuple[str, ...]:
    """A model at the benchmarks' size; its rows start small, so that distances begin near the margin."""
    return (*MODELS[model], f"discriminator.dim={DIMENSION}", "discriminator.init_scale=0.05")


def _training_options(model: str, loss: str, *, chunk: int, sides: int, bf16: bool = False) -> tuple[str, ...]:
    margin = 0 if model in ("distmult", "complex") else 9
    return (
        *model_options(model),
        *(option.format(margin=margin) for option in LOSSES[loss]),
        "generator=uniform",
        f"generator.num_negatives={NEGATIVES}",
        "optimizer=rowwise_adagrad",
        f"trainer.batch_size={BATCH}",
        f"trainer.chunk_size={chunk}",
        f"trainer.sides={'both' if sides == 2 else 'one'}",
        *(["discriminator.scoring.precision=bfloat16"] if bf16 else []),
    )


def _train(model: str, loss: str, variant: str, beside: Case | None = None) -> Case:
    shared = variant != "own"
    sides = 2 if "both_sides" in variant or (variant in ("shared", "shared_bf16") and model in PRODUCTS) else 1
    options = _training_options(model, loss, chunk=CHUNK if shared else 1, sides=sides, bf16="bf16" in variant)
    return Case(f"train/{model}/{loss}/{variant}", Kind.TRAIN, options, model, loss, shared, beside)


def _train_cases() -> Iterator[Case]:
    for loss in LOSSES:
        for model in MODELS:
            like = {variant: _train("transe_l1", loss, variant) for variant in ("shared", "shared_both_sides")}
            shared = _train(model, loss, "shared", like["shared"] if model == "rotate" else None)
            yield shared
            if model in PRODUCTS:
                yield _train(model, loss, "shared_bf16", shared)
            else:
                beside = like["shared_both_sides"] if model == "rotate" else None
                yield _train(model, loss, "shared_both_sides", beside)
            yield _train(model, loss, "own")


_ONE_SIDE = _train("complex", "self_adversarial", "shared_one_side")
_KBGAN = Case(
    "kbgan/own_setting",
    Kind.TRAIN,
    ("experiment=kbgan_fb15k237", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),
    "transe_l1",
    shared=False,
)
_KBGAN_POOL = Case(
    "kbgan/pool256",
    Kind.TRAIN,
    (
        *model_options("complex"),
        "loss=self_adversarial",
        "loss.margin=0",
        "optimizer=rowwise_adagrad",
        "generator=kbgan",
        "optimizer@generator.optimizer=rowwise_adagrad",
        f"generator.pool_size={NEGATIVES}",
        "generator.num_negatives=64",
        "generator.side=uniform",
        f"trainer.batch_size={BATCH}",
        f"trainer.chunk_size={CHUNK}",
        "trainer.sides=one",
        "pretrain.generator.epochs=0",
        "pretrain.discriminator.epochs=0",
    ),
    "complex",
    beside=_ONE_SIDE,
)

_SHARED = _train("complex", "softmax", "shared")
_RECIPES = {
    "conve": ("experiment=conve_fb15k237",),
    "rescal": ("experiment=rescal_fb15k237",),
    "tucker": ("experiment=tucker_fb15k237",),
    "complex_one_vs_all": ("experiment=complex_fb15k237", "loss=one_vs_all", "generator.num_negatives=1"),
}
"""Steps whose time goes elsewhere than into a shared pool: networks, relations' matrices, scores of all entities."""


def _as(kind: Kind, name: str, case: Case) -> Case:
    return Case(f"{kind}/{name}", kind, case.overrides, case.model)


def _samples() -> dict[str, Case]:
    """The runs that are also measured on several ranks and for their memory."""
    return {
        "complex": _SHARED,
        "transe_l1": _train("transe_l1", "self_adversarial", "shared"),
        "kbgan": _KBGAN,
    }


CASES = (
    *_train_cases(),
    _ONE_SIDE,
    _KBGAN,
    _KBGAN_POOL,
    *(Case(f"recipe/{name}", Kind.TRAIN, options, "complex", beside=_SHARED) for name, options in _RECIPES.items()),
    *(Case(f"rank/{model}", Kind.RANK, model_options(model), model) for model in MODELS),
    *(_as(kind, name, case) for kind in (Kind.RANKS, Kind.MEMORY) for name, case in _samples().items()),
)
