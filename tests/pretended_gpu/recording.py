"""Records what steps ask of the GPU, and says where two differ: what a CUDA graph of one would do wrong in another.

A graph keeps, of each kernel, the addresses of its tensors, their shapes and the numbers that the host gave. So each of
these must be the same in every step: an operation; the shape, type and place of its tensors; its numbers. The place of
a tensor is which operation of the step made it, or, if it was there before the step, its address.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tests.pretended_gpu.counting import Call, Counts
from tests.pretended_gpu.device import on_gpu, tensors_in
from tests.pretended_gpu.lines import running_line


@dataclass
class Recording:
    """What a step asked of the GPU, in order."""

    lines: list[str] = field(default_factory=list)
    """The line and the name of each operation."""
    given: list[str] = field(default_factory=list)
    """Its tensors, as text, and its numbers."""
    _made: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)
    """Tensors of the step: they are kept, so that no address is used again."""

    def add(self, call: Call) -> None:
        """Notes an operation."""
        number = len(self.lines)
        self.lines.append(f"{running_line()} {call.name}")
        named = [f"{name}={self._text(value)}" for name, value in call.kwargs.items()]
        self.given.append(", ".join([self._text(each) for each in call.args] + named))
        given = {_storage(each) for each in tensors_in((call.args, list(call.kwargs.values())))}
        for place, result in enumerate(call.results):
            if _storage(result) not in given:  # else it is a view, or was written to
                self._made[_storage(result)] = f"result {place} of {number}"
        self._kept.append((call.args, call.kwargs, call.results))

    def _text(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return self._place(value)
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self._text(each) for each in value)}]"
        return repr(value)

    def _place(self, tensor: Tensor) -> str:
        what = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} by {list(tensor.stride())}"
        if not on_gpu.has(tensor):
            return f"{what} on the CPU" + ("" if tensor.dim() else f": {float(tensor)!r}")
        if not tensor.numel():
            return what
        where = self._made.get(_storage(tensor), f"at {tensor.untyped_storage().data_ptr():x}")
        return f"{what} from {tensor.storage_offset()} of {where}"


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def recorded(counts: Counts) -> Iterator[Recording]:
    """Within a pretended GPU: yields a recording of what is asked of it until the end of the context."""
    recording = Recording()
    counts.on_call = recording.add
    try:
        yield recording
    finally:
        counts.on_call = None


def differences(recordings: Sequence[Recording]) -> list[str]:
    """Where steps differ from the first of them, a text for each line of code and operation; empty if nowhere."""
    found: dict[str, str] = {}
    first = recordings[0]
    for other in recordings[1:]:
        if other.lines != first.lines:
            pairs = zip([*first.lines, "the end"], [*other.lines, "the end"], strict=False)
            one, two = next((one, two) for one, two in pairs if one != two)
            found.setdefault(one, f"{one}: the other step has {two}")
            continue
        for line, one, two in zip(first.lines, first.given, other.given, strict=True):
            if one != two:
                found.setdefault(line, f"{line}: {one}\n    then {two}")
    return list(found.values())
