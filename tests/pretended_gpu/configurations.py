"""Small runs that together have every sampler, loss, scoring function and optimiser of conf/."""

from pathlib import Path

from tests.configs import CONF

_NEGATIVES = Path(__file__).parents[1] / "generator" / "negatives.tsv"
GROUPS = ("generator", "loss", "discriminator", "optimizer")


def _choices(generator: str, loss: str, discriminator: str, optimizer: str, *options: str) -> tuple[str, ...]:
    chosen = zip(GROUPS, (generator, loss, discriminator, optimizer), strict=True)
    return (*(f"{group}={name}" for group, name in chosen), *options)


def _part(name: str, sampler: str, *options: str) -> tuple[str, ...]:
    """Options that add a sampler to a mixture."""
    key = f"generator.parts.{name}"
    few = (f"{key}.num_negatives=4", f"+{key}._partial_=true")
    return (f"+generator@{key}={sampler}", *few, *(f"{key}.{option}" for option in options))


_ONE_STAGE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
_SHARED = ("generator.num_negatives=16", "trainer.chunk_size=16")
CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "kbgan": _choices(
        *("kbgan", "margin_ranking", "transe", "adam", "generator.pool_size=8", "generator.dim=8", *_ONE_STAGE)
    ),
    "whole table softmax, pretrained": _choices(
        *("whole_table_softmax", "self_adversarial", "rotate", "rowwise_adagrad", "generator.dim=8"),
        *("pretrain.generator.epochs=1", "pretrain.discriminator.epochs=0", "generator.num_negatives=4"),
    ),
    "hidden facts": _choices(
        *("false_negative_aware", "log_sigmoid", "simple", "lazy_adam", "generator.pool_size=16", "generator.dim=8"),
        *_ONE_STAGE,
    ),
    "nscaching": _choices("nscaching", "bce", "distmult", "lazy_adam", "generator.mask_known=true"),
    "curriculum": _choices(
        *("curriculum", "debiased", "transh", "adam", "generator@generator.hard=diverse", "generator.hard.pool_size=16")
    ),
    "mixture": _choices(
        *("mixture", "softmax", "transd", "rowwise_adagrad", "generator@generator.parts.hard=near_miss"),
        *("generator.parts.hard.num_negatives=4", *_part("near", "nearest"), *_part("hops", "k_hop")),
        *(*_part("file", "from_file", f"file={_NEGATIVES}"), *_part("typed", "typed")),
    ),
    "static mixture": _choices(
        *("mixture", "infonce", "transr", "adam", "generator@generator.parts.hard=bernoulli"),
        *("generator.parts.hard.num_negatives=4", *_part("degree", "degree")),
        *_part("cardinality", "cardinality"),
    ),
    "eans": _choices("eans", "self_adversarial", "pairre", "lazy_adam", "generator.clusters=10"),
    "influence": _choices("influence", "margin_ranking", "quate", "rowwise_adagrad", "generator.held_out=32"),
    "hasa": _choices("hasa", "hasa", "hake", "adam"),
    "in batch": _choices("in_batch", "sampled_softmax", "rescal", "rowwise_adagrad", "trainer.chunk_size=16"),
    "degree, nce": _choices("degree", "nce", "complex", "lazy_adam", "trainer.sides=both", *_SHARED),
    "all entities": _choices(
        *("uniform", "k_vs_all", "tucker", "adam", "generator.num_negatives=1", "discriminator.dim=4")
    ),
    "all entities, convolution": _choices(
        *("uniform", "one_vs_all", "conve", "rowwise_adagrad", "generator.num_negatives=1"),
        *("discriminator.scoring.height=2", "discriminator.scoring.num_filters=4"),
    ),
    "paths": _choices(
        *("uniform", "softmax", "nbfnet", "lazy_adam", "discriminator.dim=4", "discriminator.scoring.layers=2"),
        *("trainer.sides=both", "generator.mask_known=true"),
    ),
    "paths, from some entities": _choices(
        *("uniform", "softmax", "nbfnet", "lazy_adam", "discriminator.dim=4", "discriminator.scoring.layers=3"),
        *("discriminator.scoring.most_edges=50", "trainer.sides=both"),
    ),
}


def not_covered() -> list[str]:
    """The files of conf/ that no configuration names, as `group=name`."""
    options = {option for each in CONFIGURATIONS.values() for option in each}
    named = {(_group(key), name) for key, _, name in (option.partition("=") for option in options)}
    files = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
    return [f"{group}={name}" for group, name in files if (group, name) not in named]


def _group(key: str) -> str:
    """`generator` of `generator`, and of `+generator@generator.parts.hard`."""
    return key.lstrip("+").partition("@")[0]
