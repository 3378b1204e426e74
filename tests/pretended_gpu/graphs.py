"""Streams and CUDA graphs of the pretended GPU.

A graph keeps what the GPU is asked to do while it is recorded: operations, with the very tensors and numbers. Recording
does none of it, so whatever it has changed is put back afterwards, and what it has made is spoiled. A replay does
it all again, into the same tensors, and runs no code of the project.
"""

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import _disable_current_modes

from tests.pretended_gpu.counting import Call, Counts
from tests.pretended_gpu.device import tensors_in
from tests.pretended_gpu.refusals import RefusedError


class Stream:
    """A stream: here everything is done at once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def wait_stream(self, other: "Stream") -> None:
        """Nothing is left to wait for."""


class Graph:
    """A CUDA graph."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.replays = 0
        self._calls: list[Call] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Until the end of the context: what is asked of the GPU becomes part of the graph."""
        counts = self.counts
        counts.on_given, counts.on_call, counts.on_sync = self._keep, self._add, self._refuse
        try:
            yield
        finally:
            counts.on_given = counts.on_call = counts.on_sync = None
        with _disable_current_modes():
            for storage, before in self._before.values():
                storage.copy_(before)
            self._before.clear()
            for call in self._calls:
                for each in call.results:
                    if each.untyped_storage()._cdata in self._made:
                        each.detach().fill_(float("nan") if each.is_floating_point() else 0)

    def replay(self) -> None:
        """Does all of it again."""
        self.replays += 1
        self.counts.kernel("graph")
        with _disable_current_modes(), torch._C._AutoDispatchBelowAutograd():
            for call in self._calls:
                _do_again(call)

    def _keep(self, tensors: list[Tensor]) -> None:
        """What the memory of these tensors holds before the graph, unless the graph has made them."""
        for each in tensors:
            storage = each.untyped_storage()
            if storage._cdata not in self._made and storage._cdata not in self._before:
                with _disable_current_modes():
                    self._before[storage._cdata] = storage, storage.clone()

    def _add(self, call: Call) -> None:
        if call.function is None:
            raise RefusedError(f"{call.name} while a graph is recorded")
        given = {each.untyped_storage()._cdata for each in tensors_in((call.args, list(call.kwargs.values())))}
        self._made |= {each.untyped_storage()._cdata for each in call.results} - given
        self._calls.append(call)

    def _refuse(self, reason: str) -> None:
        raise RefusedError(f"the host waits while a graph is recorded: {reason}")


def _do_again(call: Call) -> None:
    function = call.function
    assert function is not None
    given = {each.untyped_storage()._cdata for each in tensors_in((call.args, list(call.kwargs.values())))}
    makes = [each.untyped_storage()._cdata not in given for each in call.results]
    writes = isinstance(function, OpOverload) and function._schema.is_mutable
    if call.results and not writes and not any(makes):
        return  # another view of the same memory
    made = list(tensors_in((function(*call.args, **call.kwargs),)))
    for is_new, old, new in zip(makes, call.results, made, strict=bool(call.results)):
        if is_new:
            old.copy_(new)


def pretend_graphs(patch: pytest.MonkeyPatch, counts: Counts) -> None:
    """Gives torch streams and graphs, until the patch is undone."""
    streams = [default := Stream()]

    @contextlib.contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        streams.append(chosen)
        yield
        streams.pop()

    @contextlib.contextmanager
    def graph(recorded: Graph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        if stream is default:
            raise RefusedError("a graph is recorded on the default stream")
        with recorded.recording():
            yield

    patch.setattr(torch.cuda, "Stream", Stream)
    patch.setattr(torch.cuda, "stream", stream)
    patch.setattr(torch.cuda, "current_stream", lambda device=None: streams[-1])
    patch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(counts))
    patch.setattr(torch.cuda, "graph", graph)
