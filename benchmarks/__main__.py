"""The command: `python -m benchmarks [FILTER ...]`."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import CASES, Case, select
from benchmarks.matrix import measure_all
from benchmarks.processes import run_worker
from benchmarks.project import compose_case
from benchmarks.settings import Settings
from graph.errors import InputError
from launch.parts import instantiate
from reporting.provenance import describe


def main() -> None:
    """The command."""
    options = _parse()
    cases = select(options.filter, quick=options.quick)
    if not cases:
        sys.exit(f"error: no case has {' or '.join(options.filter)} in its name; --list prints them")
    if options.list:
        print("\n".join(case.name for case in cases))
        return
    settings = _settings(options)
    if options.profile:
        for case in cases:
            print(f"{case.name}\n{run_worker('profile', case, settings)['table']}")
        return
    if _measure(cases, settings, options.out) < len(cases):
        sys.exit("error: some cases failed")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Speed and memory, beside the limits.")
    parser.add_argument("filter", nargs="*", metavar="FILTER", help="part of a case's name; none: all cases")
    parser.add_argument("--quick", action="store_true", help="a few cases if no FILTER is given; few steps, no peer")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each case (default: %(default)s)")
    parser.add_argument("--repeats", type=int, help="of each case (default: 5, quick 2)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="writes results.jsonl and table.md there")
    parser.add_argument("--list", action="store_true", help="print the names of cases and end")
    parser.add_argument("--profile", action="store_true", help="print where the time of each case goes and end")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> Settings:
    quick: bool = options.quick
    peer = not quick and importlib.util.find_spec("pykeen") is not None
    if not (quick or peer):
        print("PyKEEN is not installed (pip install '.[benchmarks]'): no ratio to it", file=sys.stderr)
    return Settings(
        graph=_graph(quick=quick),
        threads=options.threads,
        repeats=options.repeats or (2 if quick else 5),
        seconds=0.5 if quick else 2.0,
        ranked=512 if quick else 4096,
        peer_batches=4 if peer else 0,
    )


def _graph(*, quick: bool) -> str:
    """FB15k-237, or the built-in graph if it is not here and a quick look is all that is wanted."""
    try:
        instantiate(compose_case(CASES[0], "fb15k237").graph)
    except InputError as error:
        if not quick:
            sys.exit(f"error: {error}")
        print(f"{error}\nthe built-in graph instead: its figures compare with no other's", file=sys.stderr)
        return "synthetic"
    return "fb15k237"


def _measure(cases: Sequence[Case], settings: Settings, out: Path | None) -> int:
    """Measures, prints and writes; the number of results."""
    described = describe() | {"threads": settings.threads, "graph": settings.graph}
    described |= {"time": datetime.now(UTC).isoformat(timespec="seconds")} | run_worker("machine", cases[0], settings)
    print(report.header(described), flush=True)
    results: list[dict[str, Any]] = []
    for result in measure_all(cases, settings):
        print(report.line(result), flush=True)
        results.append({**result, "machine": described})
        if out is not None:
            _write(out, results)
    print(f"\n{report.table(results)}\n\ntargets\n\n{report.targets(results)}")
    return len(results)


def _write(out: Path, results: Sequence[dict[str, Any]]) -> None:
    """After each case, so that a run that is cut short leaves what it had."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.jsonl").write_text("".join(f"{json.dumps(result)}\n" for result in results))
    parts = (report.header(results[0]["machine"]), report.table(results), "Targets:", report.targets(results))
    (out / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
