"""METIS against random placement: `python -m benchmarks.placement`, a table in markdown.

Each line is a training of a few epochs on FB15k-237: bytes that travel between ranks in a step, the processor time of a
step, all ranks together, and validation MRR afterwards. Other work on the machine changes times a little, and nothing
else. Full graphs of encoders are encoded in each step, so their batches are larger.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.cases import Case, Kind
from benchmarks.project import Training, compose_case, start
from embedding.exchange import bytes_sent
from launch.early_signals import end_at_signals
from launch.errors import one_line_errors

_ROOT = Path(__file__).parents[1]
_COMMON = (
    *("recipe=none", "optimizer=rowwise_adagrad", "optimizer.lr=0.1", "loss=softmax", "generator=uniform"),
    *("generator.num_negatives=256", "trainer.chunk_size=256", "trainer.sides=both", "trainer.valid_sample=4000"),
)
_ENCODER = ("encoder=compgcn", "encoder.dropout=0", "discriminator=distmult", "discriminator.dim=64")
MODELS = {
    "ComplEx": (*_COMMON, "discriminator=complex", "discriminator.dim=100", "trainer.batch_size=1024"),
    "CompGCN, full graph": (*_COMMON, *_ENCODER, "trainer.batch_size=16384"),
    "CompGCN, 10 edges": (*_COMMON, *_ENCODER, "encoder.fanout=[10]", "trainer.batch_size=4096"),
}
"""Options of the models that are trained, by name."""
_HEAD = ("model", "ranks", "placement", "MB between ranks a step", "ms of processor time a step", "valid MRR", "epochs")


@dataclass(frozen=True)
class Trained:
    """What a training showed."""

    sent: float
    """Bytes a step that a rank sent to another, all ranks together."""
    seconds: float
    """Of processor time a step, all ranks together. A rank that waits for another works, for a millisecond."""
    mrr: float


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    parser.add_argument("--graph", default="fb15k237", help="a name in conf/graph (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 3], help="default: 2 3")
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS), help="default: all")
    options = parser.parse_args()
    print(f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}", flush=True)
    for model in options.models:
        for ranks in options.ranks:
            for placement in ("random", "metis"):
                words = (*MODELS[model], f"placement={placement}")
                found = train(words, options.graph, ranks, options.epochs)
                figures = f"{found.sent / 1e6:.2f} | {found.seconds * 1e3:.0f} | {found.mrr:.4f} | {options.epochs}"
                print(f"| {model} | {ranks} | {placement} | {figures} |", flush=True)


def train(words: Sequence[str], graph: str, ranks: int, epochs: int) -> Trained:
    """Trains on so many ranks of one thread each, in processes of their own.

    Raises:
        RuntimeError: they failed; its message has what they said.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trained.json"
        options = json.dumps([list(words), graph, epochs, str(file)])
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "benchmarks.placement"]
        done = subprocess.run(
            [sys.executable, "-m", *launcher, options],
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not file.exists():
            raise RuntimeError(f"the ranks ended with exit code {done.returncode}:\n{done.stderr.rstrip()}")
        return Trained(**json.loads(file.read_text()))


def _train_as_a_rank(options: str) -> None:
    words, graph, epochs, file = json.loads(options)
    config = compose_case(Case("placement", Kind.TRAIN, tuple(words), "complex"), graph)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(config, start(config), Path(folder))
        runtime, steps = training.run.runtime, epochs * training.stage.order.steps_per_epoch
        before = torch.tensor([bytes_sent(), time.process_time()], dtype=torch.float64)
        training.steps(steps)
        took = torch.tensor([bytes_sent(), time.process_time()], dtype=torch.float64) - before
        sent, seconds = (runtime.add(took) / steps).tolist()
        model = training.run.discriminator
        model.encode()
        mrr = training.trainer.validation.of(model).value
    if runtime.is_first:
        Path(file).write_text(json.dumps(asdict(Trained(sent, seconds, mrr))))
    runtime.close()


if __name__ == "__main__":
    if "RANK" in os.environ:
        end_at_signals()
        with one_line_errors():
            _train_as_a_rank(sys.argv[1])
    else:
        main()
