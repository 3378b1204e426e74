"""Sources of a row gradient: what backward gives for one use of table rows. Nothing is summed yet.

Each kind is also written as `Source` of rows.h, nine words of 64 bits, for the kernels of the CPU.
"""

import struct
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kernels.library import address
from kernels.pairs import Comparison
from kernels.shapes import expect_int32, expect_shape, per_chunk


@dataclass(frozen=True)
class GatheredGradient:
    """The gradient of rows that were copied from the table: one row of numbers for each occurrence."""

    place: Int64[Tensor, " K"]
    """The row of each occurrence."""
    value: Float[Tensor, "K E"]

    def words(self, dtype: torch.dtype, width: int) -> list[int]:
        """The words of `Source`; an error if these are not gradients of rows of this type and width."""
        expect_shape("the gradient of copied rows", self.value, len(self.place), width)
        return [len(self.place), -1, address(self.value, dtype, "the gradient of copied rows"), 0, 0, 0, 0, 0, 0]


@dataclass(frozen=True)
class PairGradient:
    """The gradient of rows that a kernel compared with queries. It is computed as rows are summed, and never stored."""

    place: Int64[Tensor, "C N"]
    kind: Comparison
    coefficient: Float[Tensor, "B N"]
    """The gradient of the loss by each score."""
    score: Float[Tensor, "B N"]
    query: Float[Tensor, "B E"]

    def words(self, dtype: torch.dtype, width: int) -> list[int]:
        """The words of `Source`; an error if these are not gradients of rows of this type and width."""
        (chunks, candidates), queries = self.place.shape, len(self.query)
        expect_shape("query", self.query, queries, width)
        expect_shape("coefficient", self.coefficient, queries, candidates)
        expect_shape("score", self.score, queries, candidates)
        named = {"coefficient": self.coefficient, "score": self.score, "query": self.query}
        addresses = [address(each, dtype, name) for name, each in named.items()]
        inverse = struct.unpack("q", struct.pack("d", 1 / max(candidates, 1)))[0]
        sizes = [per_chunk(queries, chunks), candidates, inverse]
        return [self.place.numel(), self.kind.number, 0, *addresses, *sizes]


RowGradientSource = GatheredGradient | PairGradient


def words_of(sources: list[RowGradientSource], rows: Float[Tensor, "_ E"]) -> Int64[Tensor, "S _"]:
    """The words of all sources, for a kernel; an error if they are not of rows of this type and width."""
    return torch.tensor([source.words(rows.dtype, rows.shape[1]) for source in sources], dtype=torch.int64)


def places_of(sources: list[RowGradientSource]) -> Int64[Tensor, " K"]:
    """The row of each occurrence, of all sources. OverflowError: there are more than int32 can number."""
    expect_int32("occurrences of rows", sum(source.place.numel() for source in sources))
    flat = [source.place.flatten() for source in sources]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def reached_rows(sources: list[RowGradientSource], num_rows: int, device: torch.device) -> Bool[Tensor, " U"]:
    """Whether each row occurs in the sources, whose gradient may be 0."""
    reached = torch.zeros(num_rows, dtype=torch.bool, device=device)
    return reached.index_fill_(0, places_of(sources), True) if sources else reached


def gradient_by_occurrence(
    sources: list[RowGradientSource], rows: Float[Tensor, "U E"]
) -> tuple[Int64[Tensor, " K"], Float[Tensor, "K E"]]:
    """The row of each occurrence, of all sources, and its gradient. Those of a single source are not copied."""
    if len(sources) == 1:
        return places_of(sources), _gathered(sources[0], rows)
    return places_of(sources), torch.cat([_gathered(source, rows) for source in sources])


def _gathered(source: RowGradientSource, rows: Float[Tensor, "U E"]) -> Float[Tensor, "K E"]:
    """The gradient of each occurrence, for sums without the kernels of the CPU."""
    if isinstance(source, GatheredGradient):
        return source.value
    # Only kernels make a PairGradient, so this one was made on a GPU.
    import kernels.gpu.pairs as gpu

    made = gpu.candidate_gradient(source.kind, source.query, rows, source.place, source.coefficient, source.score)
    return made.flatten(0, 1)
