"""The same training as one rank of all threads and as ranks of one thread each, in turns."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.processes import run_worker
from benchmarks.settings import Settings

_TURNS = 2


def measure(case: Case, settings: Settings) -> dict[str, Any]:
    """The result of the ranks, beside the rate of the one; each the best of its turns."""
    one, many = {}, {}
    for _ in range(_TURNS):
        one = _better(one, run_worker("measure", case, settings))
        many = _better(many, run_worker("measure", case, settings, ranks=settings.threads))
    rate = one["figures"]["positives/s"]
    figures = many["figures"]
    return many | {"figures": figures | {"one rank positives/s": rate, "x one rank": figures["positives/s"] / rate}}


def _better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max((result for result in (one, other) if result), key=lambda result: result["figures"]["positives/s"])
