"""Whole runs on a large graph, beside the same runs on FB15k-237: `python -m benchmarks.large_runs FOLDER`.

FOLDER has a graph of `python -m benchmarks.large_graph`; issue 12's is --entities 5000000 --triples 20000000. Each line
is a ratio of two runs that followed each other on the same machine, with what was asked of it. Nothing else may run.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.machine import Limits
from benchmarks.same_lines import compare
from benchmarks.timed_run import TimedRun, timed_run
from benchmarks.timing import seconds_of
from graph.knowledge_graph import PackedNames
from launch.built_run import Run
from launch.saved_run import load_run
from launch.trained_options import GraphPlace, SavedRunOptions
from trainer.runtime import Runtime

_DIMENSION = 128
COMMON = [
    *("recipe=none", "discriminator=complex", f"discriminator.dim={_DIMENSION}", "trainer.valid_every=0"),
    *("optimizer=rowwise_adagrad", "optimizer.lr=0.1", "trainer.batch_size=4096", "trainer.sides=both"),
    "generator.mask_known=false",
]
SHARED = ["generator=uniform", "generator.num_negatives=256", "trainer.chunk_size=256"]
_SAMPLERS = {
    "self-adversarial": [*SHARED, "loss=self_adversarial"],
    "NSCaching": [
        *("generator=nscaching", "generator.cache_size=50", "generator.fresh_size=50", "generator.num_negatives=16"),
        # One cache for each of 38 million queries would take 7.6 GB.
        *("generator.max_caches=1000000", "trainer.chunk_size=1", "loss=self_adversarial"),
    ],
    # Pools are shared. With one for each positive, a step waits for rows at random places in memory, and each
    # positive costs 3.8 times as much as where all rows are in the cache.
    "KBGAN": [
        *("generator=kbgan", "generator.pool_size=256", "generator.num_negatives=16", "trainer.chunk_size=256"),
        *("loss=self_adversarial", "optimizer@generator.optimizer=rowwise_adagrad"),
        *("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),  # the adversarial stage is timed
    ],
}
_RANKED = 512
_SECONDS_WITH_CHECKPOINT = 660.0
"""Of a run that saves a checkpoint by time: `trainer.checkpoint_minutes` is 10."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_runs", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the large graph")
    parser.add_argument("--seconds", type=float, default=90.0, help="of training, each run (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each run (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=list(_CASES), default=list(_CASES), help="default: all")
    options = parser.parse_args()
    print("| figure | measured | at least | what was run |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=options.folder.parent) as folder:
        bench = _Bench(Path(folder), options.folder, options.seconds, options.threads)
        for name in options.only:
            for line in _CASES[name](bench):
                print(f"| {line} |", flush=True)


class _Bench:
    """Runs on the two graphs."""

    def __init__(self, folder: Path, graph: Path, seconds: float, threads: int) -> None:
        self.folder, self.seconds, self.threads = folder, seconds, threads
        self._graphs = {"small": ["graph=fb15k237"], "large": ["graph=folder", f"graph.path={graph.resolve()}"]}
        self.memory: TimedRun | None = None

    def run(self, graph: str, options: list[str], name: str, *, least: float = 0.0) -> TimedRun:
        """A run of at least so many seconds on the small or the large graph, whose folder stays until the end."""
        words = [*self._graphs[graph], *COMMON, *options]
        return timed_run(self.folder / name, words, self.threads, max(self.seconds, least))

    @property
    def in_memory(self) -> TimedRun:
        """The run on the large graph with which others are compared, made once; it saves a checkpoint by time."""
        if self.memory is None:
            options = [*SHARED, "loss=softmax"]
            self.memory = self.run("large", options, "large", least=_SECONDS_WITH_CHECKPOINT)
        return self.memory

    def trained(self) -> Run:
        """That run, loaded into this process."""
        assert self.in_memory
        place = GraphPlace(root=None, path=None, cache=None)
        options = SavedRunOptions(run=str(self.folder / "large"), checkpoint=None, graph=place)
        return load_run(options, Runtime.start(device="cpu", timeout_seconds=60.0))[0]


def _whole_run(bench: _Bench) -> Iterator[str]:
    small = bench.run("small", [*SHARED, "loss=softmax"], "small").rate
    large = bench.in_memory
    again = bench.run("small", [*SHARED, "loss=softmax"], "small_again").rate
    beside = (small + again) / 2
    text = f"{large.rate:,.0f} positives a second; FB15k-237 before {small:,.0f}, after {again:,.0f}"
    yield f"whole run beside FB15k-237 | {large.rate / beside:.2f} | .8 | {text}"
    triples = len(bench.trained().graph.train)
    yield f"minutes of an epoch | {triples / large.rate / 60:.1f} | at most 3 | {triples:,} triples"


def _memory(bench: _Bench) -> Iterator[str]:
    run, graph = bench.in_memory, bench.trained().graph
    names = PackedNames.pack(graph.entity_names)
    held = graph.num_entities * (_DIMENSION + 1) * 4 + graph.train.nbytes + names.text.nbytes + names.offsets.nbytes
    budget = 1.2 * held + 600e6
    text = f"{run.peak / 1e6:,.0f} MB, {run.own / 1e6:,.0f} not from files; table, state, graph {held / 1e6:,.0f}"
    yield f"memory beside 1.2 x what must be held + 600 MB | {run.peak / budget:.2f} | at most 1 | {text}"


def _ranking(bench: _Bench) -> Iterator[str]:
    run = bench.trained()
    triples, evaluator = run.graph.test[:_RANKED], run.evaluator(run.all_known)
    limits = Limits(("sgemm GFLOP/s",), run.runtime.device)
    evaluator.evaluate(run.discriminator, triples[:1])  # makes the index of known facts, or maps it
    limits.measure()
    seconds = seconds_of(lambda: evaluator.evaluate(run.discriminator, triples))
    limits.measure()
    gflops = 4e-9 * len(triples) * run.graph.num_entities * _DIMENSION / seconds
    text = f"{len(triples)} triples, both sides, {seconds:.0f} s; sgemm {limits.best['sgemm GFLOP/s']:.0f} GFLOP/s"
    yield f"exact ranking beside sgemm | {gflops / limits.best['sgemm GFLOP/s']:.2f} | .5 | {text}"


def _disk(bench: _Bench) -> Iterator[str]:
    on_disk = [*SHARED, "loss=softmax", "placement.storage=disk", "placement.shards=16", "placement.resident=4"]
    run = bench.run("large", on_disk, "disk")
    text = f"{run.rate:,.0f} positives a second, {run.own / 1e6:,.0f} MB not mapped from files"
    yield f"4 of 16 shards in memory beside all | {run.rate / bench.in_memory.rate:.2f} | .4 | {text}"


def _samplers(bench: _Bench) -> Iterator[str]:
    for name, options in _SAMPLERS.items():
        small, large = (bench.run(graph, options, f"{graph}_{name}").rate for graph in ("small", "large"))
        text = f"{large:,.0f} positives a second; FB15k-237 {small:,.0f}"
        yield f"cost of {name} beside FB15k-237 | {small / large:.2f} | at most 1.5 | {text}"


def _ranks(bench: _Bench) -> Iterator[str]:
    options = [*SHARED, "loss=softmax", "trainer.log_digests=true", "trainer.log_every=10"]
    for ranks in (1, 2, 3):
        bench.run("large", [*options, f"launch.ranks={ranks}"], f"ranks_{ranks}")
    for ranks in (2, 3):
        same = compare(bench.folder / f"ranks_{ranks}", bench.folder / "ranks_1")
        yield f"{ranks} ranks beside one | {same.cells}"


_CASES: dict[str, Callable[[_Bench], Iterator[str]]] = {
    "whole_run": _whole_run,
    "memory": _memory,
    "ranking": _ranking,
    "disk": _disk,
    "samplers": _samplers,
    "ranks": _ranks,
}

if __name__ == "__main__":
    main()
