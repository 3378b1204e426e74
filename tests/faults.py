"""`python -m tests.faults runs=20 seed=0`: kills runs at random and checks that they end as if unbroken.

Each run has a table (in memory, also with checkpoints in the background, or on disk), a sampler, a way to be started
and a few kills, all drawn from the seed. With `table='large on disk'`, all runs have a table on disk of 300,000
entities. What is killed: a rank, the launcher, or one of two nodes of an elastic launch, which are on this machine or
on machines of their own (Linux namespaces, where that is allowed). When: while it starts, in the middle, while it
saves, or while a shard is written. After a kill the same command is typed again, if the launcher has not gone on by
itself. Every run must end, and equal a run of one rank that nobody killed.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fault_runs import A_SHARD, LARGE, MOMENTS, SAMPLERS, TABLES, WAYS, Fault, attempt
from tests.same_run import assert_same_run

_SMALL = tuple(table for table in TABLES if table != LARGE)


def draw(source: random.Random, tables: Sequence[str]) -> tuple[str, str, str, list[Fault]]:
    """One of the tables, a sampler, a way to start, and one to three faults."""
    table = source.choice(tables)
    # Ranks that launch.ranks starts are launch/train.py itself, which copies large checkpoints alone.
    ways = [way for way in WAYS if table != "saved in the background" or not way.endswith("ranks")]
    # Two nodes on the one disk would take as long again: the small table has them.
    way = source.choice([way for way in ways if table != LARGE or way.endswith(("rank", "ranks"))])
    sampler = source.choice(SAMPLERS[table])
    targets = {"one rank": ["launcher"], "two ranks": ["rank", "launcher"], "three ranks": ["rank", "launcher"]}
    of_way = targets.get(way, ["rank", "launcher", "node"])
    moments = [*MOMENTS, *[A_SHARD] * {"on disk": 2, LARGE: 1}.get(table, 0)]
    faults = [
        Fault(source.choice(of_way), source.choice(moments), source.random()) for _ in range(source.randint(1, 3))
    ]
    return table, sampler, way, faults


def run(table: str, sampler: str, way: str, faults: list[Fault], folder: Path, unbroken: Path | None) -> Counter[str]:
    """One run of the campaign.

    Args:
        folder: made for it.
        unbroken: the folder of a run that nobody killed.
    Returns:
        How many kills hit, by moment, and "typed again": how often the command was, after the last.
    Raises:
        AssertionError: the run did not end, or differs from the unbroken one.
    """
    told: Counter[str] = Counter()
    with attempt(table, sampler, way, folder) as made:
        for fault in faults:
            made.start()
            made.wait_for(fault)
            told[fault.moment] += made.hit(fault)
        made.start()
        told["typed again"] = made.finish()
        if unbroken is not None:
            assert_same_run(made.result, unbroken / "run")
    return told


def campaign(runs: int, source: random.Random, tables: Sequence[str]) -> bool:
    """Makes so many runs with these tables and tells of each; whether all ended as they should."""
    told: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="faults_"))
    for number in range(runs):
        table, sampler, way, faults = draw(source, tables)
        unbroken = place / f"{table} {sampler}".replace(" ", "_")
        if not unbroken.exists():
            run(table, sampler, "one rank", [], unbroken, None)
        said = ", ".join(f"{fault.target} {fault.moment}" for fault in faults)
        name = f"{number}: {table}, {sampler}, {way}; {said}"
        began = time.monotonic()
        try:
            of_run = run(table, sampler, way, faults, place / str(number), unbroken)
        except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
            told["failed"] += 1
            print(f"{name}: FAILED: {error}", flush=True)
            continue
        told += of_run
        told["ended"] += 1
        again = of_run.pop("typed again")
        print(f"{name}: {of_run.total()} hit, typed again {again}, {time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(place / str(number))
    kills = {moment: told[moment] for moment in (*MOMENTS, A_SHARD) if told[moment]}
    by_moment = ", ".join(f"{count} {moment}" for moment, count in kills.items())
    print(f"{told['ended']} of {runs} runs ended as if unbroken after {sum(kills.values())} kills ({by_moment})")
    if told["failed"]:
        print(f"error: {told['failed']} failed; their folders are in {place}", file=sys.stderr)
        return False
    shutil.rmtree(place)
    return True


def main() -> None:
    """The command; exits with 1 if a run was lost or differs."""
    options = dict(word.split("=") for word in sys.argv[1:])
    runs, source = int(options.pop("runs", "20")), random.Random(int(options.pop("seed", "0")))
    table = options.pop("table", None)
    if options:
        sys.exit(f"error: options are runs, seed and table, got {', '.join(options)}")
    if table is not None and table not in TABLES:
        sys.exit(f"error: table must be one of {'; '.join(TABLES)}, got {table!r}")
    if not campaign(runs, source, _SMALL if table is None else (table,)):
        sys.exit(1)


if __name__ == "__main__":
    main()
