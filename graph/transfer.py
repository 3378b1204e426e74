"""Copies from the CPU to a GPU that the host does not wait for."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def sent(value: Shaped[Tensor, "*s"], device: torch.device) -> Shaped[Tensor, "*s"]:
    """A CPU tensor on another device. The host goes on at once, although the GPU may not have it yet.

    What is copied is a copy in pinned memory, which the GPU can read by itself. torch keeps it until the GPU has read
    it, and what the GPU does with the result comes after, so nobody can see it half copied.
    """
    if device.type == "cpu":
        return value
    return value.pin_memory().to(device, non_blocking=True)


def send_to(place: Shaped[Tensor, "*s"], value: Shaped[Tensor, "*s"]) -> None:
    """Overwrites a tensor of a GPU with one of the CPU, which the host does not wait for, as in `sent`."""
    place.copy_(value.pin_memory(), non_blocking=True)
