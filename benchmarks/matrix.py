"""All selected cases one after the other, each with its peer."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks import ranks
from benchmarks.cases import Case, Kind
from benchmarks.processes import WorkFailed, run_worker
from benchmarks.settings import Settings

_Peers = dict[tuple[Kind, str, str | None], dict[str, float]]


def measure_all(cases: Iterable[Case], settings: Settings) -> Iterator[dict[str, Any]]:
    """A result of each case as soon as it is there; a case that fails is named and left out."""
    peers: _Peers = {}
    for case in cases:
        try:
            yield _measure(case, settings, peers)
        except WorkFailed as failure:
            print(f"failed: {failure}", file=sys.stderr, flush=True)


def _measure(case: Case, settings: Settings, peers: _Peers) -> dict[str, Any]:
    measured = ranks.measure(case, settings) if case.kind == Kind.RANKS else run_worker("measure", case, settings)
    result = {"case": case.name, "settings": json.loads(settings.as_json()), "overrides": case.overrides, **measured}
    if settings.peer_batches and (case.kind == Kind.RANK or case.loss is not None):
        # The peer knows nothing of pools or sides: one measurement serves all of a model's and loss's cases.
        key = case.kind, case.model, case.loss
        peers[key] = peers.get(key) or run_worker("peer", case, settings)
        [(unit, rate)] = peers[key].items()
        result["figures"] |= {f"peer {unit}": rate, "x peer": result["figures"][unit] / rate}
    return result
