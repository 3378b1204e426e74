# PyKEEN is an optional dependency, and the checks of a checkout without it must pass too.
# pyright: reportMissingImports=false
"""Whole steps with CompGCN in front of DistMult, beside PyKEEN's: `python -m benchmarks.encoders`, alone on a machine.

Both encode all entities in each step, from one layer of edges and their inverses, and have the same dimension, batch,
number of negatives, kind of loss (softmax) and optimiser (Adam over all rows).
"""

import argparse
import logging
import math
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from pykeen.losses import InfoNCELoss
from pykeen.models import CompGCN
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory

from benchmarks.peer import BatchClock
from benchmarks.project import Training, start
from benchmarks.timing import seconds_of
from graph.knowledge_graph import KnowledgeGraph
from launch import schema

_DIMENSION = 200
_NEGATIVES = 16
_CONF = Path(__file__).parents[1] / "conf"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__)
    parser.add_argument("--graph", default="fb15k237", help="a name in conf/graph (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4096, help="positives of a step (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=3, help="that are timed; the fastest counts (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        training = _training(options.graph, options.batch, Path(folder))
        graph = training.run.graph
        training.steps(1)
        before = min(seconds_of(lambda: training.steps(1)) for _ in range(options.steps))
        peer = _seconds_of_peer(graph, options.batch, options.steps)
        after = min(seconds_of(lambda: training.steps(1)) for _ in range(options.steps))
    steps = math.ceil(len(graph.train) / options.batch)
    print("| | a step | an epoch |\n| --- | --- | --- |")
    for name, seconds in (("AdvKGE, before", before), ("PyKEEN", peer), ("AdvKGE, after", after)):
        print(f"| {name} | {seconds:.2f} s | {steps * seconds / 60:.1f} min |")
    print(f"\n{peer / min(before, after):.1f} times as fast")


def _training(graph: str, batch: int, folder: Path) -> Training:
    words = ["recipe=none", f"graph={graph}", "discriminator=distmult", f"discriminator.dim={_DIMENSION}"]
    words += ["discriminator.reciprocal=true", "encoder=compgcn", "encoder.dropout=0", "optimizer=adam", "loss=softmax"]
    words += ["generator=uniform", f"generator.num_negatives={_NEGATIVES}", "generator.mask_known=false"]
    words += [f"trainer.batch_size={batch}", "trainer.chunk_size=1", "trainer.sides=one", "trainer.valid_every=0"]
    schema.register()
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        config = compose("train", words)
    return Training(config, start(config), folder)


def _seconds_of_peer(graph: KnowledgeGraph, batch: int, steps: int) -> float:
    """Seconds of the peer's fastest batch; the first is left out, in which it sets itself up."""
    edges = _factory(graph, graph.train)
    layers = {"num_layers": 1, "layer_kwargs": {"composition": "MultiplicationCompositionModule"}}
    model = CompGCN(
        triples_factory=edges,
        embedding_dim=_DIMENSION,
        encoder_kwargs=layers,
        interaction="DistMult",
        loss=InfoNCELoss(),
        random_seed=0,
    )
    rows = torch.randperm(len(graph.train))[: (steps + 1) * batch]
    some = _factory(graph, graph.train[rows])
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=some,
        optimizer=torch.optim.Adam(model.get_grad_params(), lr=0.001),
        negative_sampler="basic",
        negative_sampler_kwargs={"num_negs_per_pos": _NEGATIVES},
    )
    clock = BatchClock()
    loop.train(some, num_epochs=1, batch_size=batch, use_tqdm=False, num_workers=0, pin_memory=False, callbacks=clock)
    return min(end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False))


def _factory(graph: KnowledgeGraph, triples: torch.Tensor) -> CoreTriplesFactory:
    sizes = graph.num_entities, graph.num_relations
    return CoreTriplesFactory(
        triples.long(), num_entities=sizes[0], num_relations=sizes[1], create_inverse_triples=True
    )


if __name__ == "__main__":
    main()
