"""The options that a search varies, typed in hydra's sweep syntax, such as `optimizer.lr=interval(0.001,0.1)`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from graph.errors import InputError

_TAGS = {"log"}


@dataclass(frozen=True)
class Dimension:
    """An option that is varied, and its values."""

    key: str
    """The key as it is typed, such as optimizer.lr."""
    distribution: BaseDistribution


def split_space(arguments: Sequence[str]) -> tuple[list[Dimension], list[str]]:
    """Splits arguments into options that are varied and all others.

    `key=a,b` and `key=choice(a,b)` choose one of several values, `key=range(1,9,2)` one of 1, 3, 5, 7.
    `key=interval(0,1)` is a number between 0 and 1, `key=tag(log,interval(1e-4,0.1))` one that is uniform in the
    logarithm.

    Raises:
        InputError: an interval is empty, or its tag is unknown; names the option.
    """
    dimensions: list[Dimension] = []
    others: list[str] = []
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            others.append(argument)
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            raise InputError(f"{argument!r} can't be read: {' '.join(str(error).split())}") from error
        if override.is_sweep_override():
            dimensions.append(Dimension(override.get_key_element(), _distribution(override)))
        else:
            others.append(argument)
    return dimensions, others


def _distribution(override: Override) -> BaseDistribution:
    key, value = override.get_key_element(), override.value()
    if not isinstance(value, IntervalSweep):
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    if unknown := value.tags - _TAGS:
        raise InputError(f"{key}: an interval may have the tag log, got {', '.join(sorted(unknown))}")
    assert value.start is not None
    assert value.end is not None
    low, high = float(value.start), float(value.end)
    if not low < high:
        raise InputError(f"{key}: an interval must go from a lower number to a higher one, got {low} and {high}")
    if "log" in value.tags and low <= 0:
        raise InputError(f"{key}: an interval with the tag log must start above 0, got {low}")
    return FloatDistribution(low, high, log="log" in value.tags)


def as_options(values: Mapping[str, object]) -> list[str]:
    """The values of a trial as options for a run."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]
