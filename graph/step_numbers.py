"""Numbers of the host that change from step to step, in the memory of a GPU, where a step that is repeated reads them.

A CUDA graph of a step keeps the numbers that its kernels were given. So a kernel of such a step is given the place of a
number instead, and the host writes there before each repetition: all numbers of a step in one copy.
"""

import struct
from collections.abc import Callable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from graph.transfer import send_to

_MOST = 64
"""Numbers of a step; a step of KBGAN has twelve: two keys, twice the sides, and rates of both models."""


class StepNumbers:
    """The numbers of a step that is repeated, by the order in which it asks for them.

    The first steps, which are not repeated yet, show what they are: each asks for a number by a function that computes
    it. Every later step must ask for as many, in the same order.

    Example:
        numbers.begin()  # sends what the last step asked for, as it is now
        rate = numbers.number(lambda: optimizer.lr)  # float64, on the GPU
    """

    def __init__(self, device: torch.device) -> None:
        # Each has 16 bytes, as if it were a tensor of its own: Triton compiles a kernel by how its arguments lie.
        self._words = torch.zeros((_MOST, 2), dtype=torch.int64, device=device)
        self._of: list[Callable[[], int]] = []
        self._sent: list[int] = []
        self._asked = 0

    def begin(self) -> None:
        """Begins a step: sends the numbers that are known, unless all of them are as they were. The host goes on."""
        self._asked = 0
        words = [of() for of in self._of]
        if words != self._sent:
            self._send(0, words)
            self._sent = words

    def number(self, of: Callable[[], float]) -> Float64[Tensor, ""]:
        """The place of a number that `of` computes for the step that begins."""
        return self.integer(lambda: struct.unpack("q", struct.pack("d", of()))[0]).view(torch.float64)

    def integer(self, of: Callable[[], int]) -> Int64[Tensor, ""]:
        """The same of an integer."""
        place = self._asked
        self._asked += 1
        if place < len(self._of):
            self._of[place] = of
        else:
            self._of.append(of)
            self._sent.append(of())
            self._send(place, self._sent[place:])
        return self._words[place, 0]

    def _send(self, first: int, words: list[int]) -> None:
        send_to(self._words[first : first + len(words)], torch.tensor([[word, 0] for word in words]))
