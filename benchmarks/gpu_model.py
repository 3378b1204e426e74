"""A model of the rate on an H100, where there is none: `python -m benchmarks.gpu_model`.

A step's kernels, bytes and operations come from the shapes of a step on the pretended GPU (`gpu_work`), the GPU's
rates from `h100`. Each kernel takes the longest of its operations, its memory, its cache, and the shortest time of a
kernel. The host takes its time for each launch. Where it never waits, host and device work at once, and the longer
counts; a wait makes the host idle until the device is done, and the device until the next kernel arrives, so then both
are added. The last column is of a step that is one CUDA graph (`trainer.cuda_graph`): the host starts the graph and
four kernels beside it, which bring the batch and the numbers of the step, and keep the means. Plain torch repeats steps
as a graph with trainer.sides=both alone, or with reciprocal relations.

It is a model: no figure of it was seen on a GPU. Python between the launches is left out. A positive counts once, also
if both of its sides are corrupted.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gpu_work import Kernels, StepWork, work_of_step
from benchmarks.h100 import H100, Device

_BATCH = 4096
_TIMES = ("launch", "triton_launch", "graph_launch", "shortest", "wait")
_OF_FB15K = ("graph.num_people=11000", "discriminator.dim=200", "trainer.log_digests=false", "trainer.log_every=1000")
"""A graph of about as many entities and triples as FB15k-237 has, that needs no download."""
_POOL = ("generator=uniform", "generator.num_negatives=256", "trainer.chunk_size=256", "optimizer=rowwise_adagrad")
_MICRO = 1e-6
_BESIDE_GRAPH = 4
"""Kernels and copies of a repeated step that are not in its graph; see tests/pretended_gpu/test_graphs.py."""


@dataclass(frozen=True)
class Modelled:
    """A configuration, and the rate that it should reach."""

    options: tuple[str, ...]
    target: float
    """Positives a second."""


CASES = {
    "ComplEx d 200, pool 256, both sides, softmax": Modelled(
        (*_OF_FB15K, *_POOL, "discriminator=complex", "loss=softmax", "trainer.sides=both"), 10e6
    ),
    "TransE L1 d 200, pool 256, one side, self-adversarial": Modelled(
        (*_OF_FB15K, *_POOL, "discriminator=transe", "loss=self_adversarial"), 5e6
    ),
    "KBGAN, own setting (d 50, 20 candidates)": Modelled(
        (
            *(*_OF_FB15K, "discriminator.dim=50", "generator=kbgan", "discriminator=transe", "loss=margin_ranking"),
            *("optimizer=adam", "pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0"),
        ),
        2e6,
    ),
}


@dataclass(frozen=True)
class Rate:
    """The modelled times of a step, in seconds."""

    host: float
    device: float
    waiting: float
    """What waits add; 0 if there are none."""
    by: dict[str, float]
    """The device's time by what bounds its kernels: "launch", "memory", "cache" or "flops"."""
    longest: list[tuple[str, float]]
    """The kernels that take most of it, by name."""
    positives: int
    of_graph: tuple[float, float]
    """The host's and the device's time of a step that is one CUDA graph."""

    @property
    def step(self) -> float:
        """Of the whole step."""
        return self.host + self.device + self.waiting if self.waiting else max(self.host, self.device)

    @property
    def a_second(self) -> float:
        """Positives."""
        return self.positives / self.step

    @property
    def in_one_graph(self) -> float:
        """Positives a second of steps that are one CUDA graph."""
        return self.positives / max(self.of_graph)

    def bound(self) -> str:
        """What takes most of the step."""
        if self.host >= self.device:
            return "launches on the host"
        what = max(self.by, key=lambda name: self.by[name])
        return {"launch": "the number of kernels"}.get(what, f"{what} of the device")


def rate_of(work: StepWork, device: Device) -> Rate:
    """What a device is modelled to take for a step."""
    by: dict[str, float] = dict.fromkeys(("launch", "memory", "cache", "flops"), 0.0)
    names: dict[str, float] = {}
    for each in work.kernels:
        what, seconds = _bound(each, device)
        by[what] += seconds
        names[each.name] = names.get(each.name, 0.0) + seconds
    torch_kernels, triton = work.launches
    host = torch_kernels * device.launch + triton * device.triton_launch
    longest = sorted(names.items(), key=lambda pair: -pair[1])[:3]
    on_device = sum(by.values())
    of_graph = device.graph_launch + _BESIDE_GRAPH * device.launch, on_device + _BESIDE_GRAPH * device.shortest
    return Rate(host, on_device, work.waits * device.wait, by, longest, work.positives, of_graph)


def _bound(each: Kernels, device: Device) -> tuple[str, float]:
    """What bounds these kernels, and their time together."""
    peak = device.flops.get(each.type, device.flops[max(device.flops, key=lambda kind: kind.itemsize)])
    times = {
        "launch": each.number * device.shortest,
        "memory": each.memory / device.memory / device.reached,
        "cache": each.cache / device.cache / device.reached,
        "flops": each.flops / peak / device.reached,
    }
    what = max(times, key=lambda name: times[name])
    return what, times[what]


def table(cases: Iterable[tuple[str, Modelled]], device: Device, batch: int, folder: Path) -> Iterator[str]:
    """The lines of a table in Markdown, as they are modelled."""
    columns = ("", "kernels: torch, Triton", "waits", "host us", "device us", "M positives/s", "target, M/s")
    columns = (*columns, "bound by", "M/s as one graph")
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join(['---'] * len(columns))} |"
    for name, case in cases:
        for triton in (False, True):
            options = (*case.options, f"trainer.batch_size={batch}")
            work = work_of_step(options, folder / f"{name} {triton}", triton=triton)
            rate = rate_of(work, device)
            yield (
                f"| {name}, {'Triton' if triton else 'plain torch'} | {work.launches[0]}, {work.launches[1]} "
                f"| {work.waits} | {rate.host / _MICRO:.0f} | {rate.device / _MICRO:.0f} | {rate.a_second / 1e6:.2f} "
                f"| {'reached' if rate.a_second >= case.target else 'missed'}: {case.target / 1e6:g} "
                f"| {rate.bound()} ({_longest(rate)}) | {rate.in_one_graph / 1e6:.2f} |"
            )


def _longest(rate: Rate) -> str:
    return "longest: " + ", ".join(f"{name} {seconds / _MICRO:.0f} us" for name, seconds in rate.longest)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_model", description="Modelled rates on an H100.")
    parser.add_argument("filter", nargs="*", metavar="FILTER", help="part of a configuration's name; none: all")
    parser.add_argument("--batch", type=int, default=_BATCH, help="positives a step (default: %(default)s)")
    for name in _TIMES:
        given = getattr(H100, name) / _MICRO
        option = f"--{name.replace('_', '-')}-us"
        parser.add_argument(option, type=float, default=given, help="see benchmarks/h100.py (default: %(default)g)")
    parser.add_argument("--reached", type=float, default=H100.reached, help="share of the peaks (default: %(default)g)")
    options = parser.parse_args()
    times = {name: getattr(options, f"{name}_us") * _MICRO for name in _TIMES}
    parts: list[str] = options.filter or [""]
    chosen = [(name, case) for name, case in CASES.items() if any(part in name for part in parts)]
    with tempfile.TemporaryDirectory() as folder:
        for line in table(chosen, replace(H100, **times, reached=options.reached), options.batch, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
