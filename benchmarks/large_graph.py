"""Writes a large graph with something to learn, a piece at a time: `python -m benchmarks.large_graph OUT`.

Each entity has one of many clusters, and each relation maps clusters to clusters. A triple's tail is mostly of the
cluster that its relation maps the head's cluster to. Within a cluster, degrees follow a power law. A piece of triples
is a function of (seed, piece), so memory is that of one piece. `graph=folder graph.path=OUT` reads the files, which are
Parquet with integers.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

_PIECE = 5_000_000
_HELD_OUT = 5_000
"""Triples of valid, and of test."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_graph", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder, which is made")
    parser.add_argument("--entities", type=int, default=3_000_000, help="those that no triple has do not exist")
    parser.add_argument("--triples", type=int, default=10_000_000)
    parser.add_argument("--relations", type=int, default=100)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.1, help="the share of triples whose tail has any cluster")
    parser.add_argument(
        "--skew", type=float, default=2.0, help="the higher, the more triples a cluster's first entities have"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 1 <= options.clusters <= options.entities:
        parser.error(f"--clusters must be from 1 to --entities ({options.entities}), got {options.clusters}")
    if options.skew < 1:
        parser.error(f"--skew must be at least 1 (all entities alike), got {options.skew}")
    if min(options.triples, options.relations) < 1:
        parser.error(f"--triples and --relations must be at least 1, got {options.triples} and {options.relations}")
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = [min(_PIECE, options.triples - first) for first in range(0, options.triples, _PIECE)]
    for piece, size in enumerate(sizes):
        _write(options, options.out / f"train-{piece:05d}-of-{len(sizes):05d}.parquet", piece, size)
        print(f"{sum(sizes[: piece + 1]):,} of {options.triples:,} triples", flush=True)
    for number, split in enumerate(("valid", "test")):
        _write(options, options.out / f"{split}.parquet", len(sizes) + number, _HELD_OUT)


def _write(options: argparse.Namespace, path: Path, piece: int, size: int) -> None:
    head, relation, tail = piece_of(options, piece, size)
    table = pa.table({"head": head, "relation": relation, "tail": tail})
    parquet.write_table(table, path)


def piece_of(options: argparse.Namespace, piece: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads, relations and tails of a piece: a function of the options and its number.

    Entity e has cluster e % clusters; the smaller e is, the more triples it has.
    """
    shape = np.random.default_rng([options.seed, 0])
    shift = shape.integers(0, options.clusters, options.relations)
    random = np.random.default_rng([options.seed, 1, piece])
    relation = random.integers(0, options.relations, size)
    of_head = random.integers(0, options.clusters, size)
    of_tail = (of_head + shift[relation]) % options.clusters
    noisy = random.random(size) < options.noise
    of_tail[noisy] = random.integers(0, options.clusters, int(noisy.sum()))
    head, tail = (_member(random, cluster, options) for cluster in (of_head, of_tail))
    return head.astype(np.int32), relation.astype(np.int32), tail.astype(np.int32)


def _member(random: np.random.Generator, cluster: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """An entity of each cluster: place p has a probability about as p ** (1 / skew - 1)."""
    members = (options.entities - 1 - cluster) // options.clusters + 1
    place = (members * random.random(len(cluster)) ** options.skew).astype(np.int64)
    return np.minimum(place, members - 1) * options.clusters + cluster


if __name__ == "__main__":
    main()
