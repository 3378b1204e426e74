"""Binary search within ranges of one tensor, such as the answers of a query among those of all queries."""

import torch
from jaxtyping import Int32, Int64
from torch import Tensor


def find_in_ranges(
    values: Int32[Tensor, " K"],
    start: Int64[Tensor, "*s"],
    stop: Int64[Tensor, "*s"],
    wanted: Int64[Tensor, "*s"],
    *,
    longest: int | None = None,
) -> Int64[Tensor, "*s"]:
    """The place of each wanted number in `values[start:stop]`, which ascends without repeats; -1 if it is not there.

    A range may be empty. The search takes as many rounds as the longest range has bits.

    Args:
        longest: no range is longer; None: the host looks for the longest, and waits for a GPU.
    """
    if not values.numel() or not wanted.numel():
        return torch.full_like(wanted, -1)
    last = len(values) - 1
    place = start
    longest = int((stop - start).max()) if longest is None else longest
    for bit in reversed(range(longest.bit_length())):
        further = place + (1 << bit)
        smaller = (further <= stop) & (values[(further - 1).clamp(max=last)] < wanted)
        place = torch.where(smaller, further, place)
    found = (place < stop) & (values[place.clamp(max=last)] == wanted)
    return torch.where(found, place, -1)
