"""The collectives of a partitioned table: rows travel to whoever asked, their gradients travel back to the owner.

Every function here is Collective: all ranks call it together, also those that ask for nothing.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from embedding.shared_memory import SharedMemory

_shared: SharedMemory | None = None


@dataclass(frozen=True)
class Route:
    """Who asked whom for which rows: the way out for rows, and the way back for their gradients."""

    wanted: list[int]
    """Number of rows that this rank wants of each rank."""
    asked: list[int]
    """Number of rows that each rank asks of this one."""
    local_row: Int64[Tensor, " K"]
    """The rows of this rank's block that were asked for, grouped by the asking rank."""


def plan_route(row: Int64[Tensor, " U"], block: int) -> Route:
    """Tells the owners which rows are wanted. Collective.

    Args:
        row: distinct rows of the whole table, ascending, so that they are grouped by owner.
        block: rows that a rank owns; rank k owns [k * block, (k + 1) * block).
    """
    wanted = torch.bincount(row // block, minlength=dist.get_world_size()).tolist()
    arrived, asked = _all_to_all(row, wanted, None)
    return Route(wanted, asked, arrived - dist.get_rank() * block)


def fetch_rows(weight: Shaped[Tensor, "L D"], route: Route) -> Shaped[Tensor, "U D"]:
    """The wanted rows, in the order in which they were asked for. Collective."""
    return _all_to_all(weight.index_select(0, route.local_row), route.asked, route.wanted)[0]


def deliver_rows(value: Shaped[Tensor, "U D"], route: Route) -> Shaped[Tensor, "K D"]:
    """Sends rows, such as gradients, to the owners of the wanted ones: they belong to `route.local_row`. Collective."""
    return _all_to_all(value, route.wanted, route.asked)[0]


def gather_ranks(value: Shaped[Tensor, "B *d"], world_size: int) -> list[Shaped[Tensor, "_ *d"]]:
    """What each rank gave, by rank; they may give different numbers of rows. Collective."""
    if world_size == 1:
        return [value]
    if _shared is not None and value.device.type == "cpu":
        gathered = _shared.gather(value)
        if gathered is not None:
            return gathered
    everyone = value.repeat(world_size, *[1] * (value.dim() - 1))
    arrived, sizes = _all_to_all(everyone, [len(value)] * world_size, None)
    return list(arrived.split(sizes))


def return_to_ranks(value: list[Shaped[Tensor, "_ *d"]], rank: int) -> Shaped[Tensor, "W B *d"]:
    """The way back of `gather_ranks`: what each rank made of this rank's rows, by rank. Collective.

    Args:
        value: what this rank made of each rank's rows.
    """
    if len(value) == 1:
        return value[0][None]
    own = value[rank]
    arrived, _ = _all_to_all(torch.cat(value), [len(each) for each in value], [len(own)] * len(value))
    return arrived.view(len(value), *own.shape)


def share_memory(seconds: float) -> None:
    """Lets the ranks exchange rows through memory from now on, if they are all on one machine. Collective.

    Args:
        seconds: how long a rank waits for another before it gives the run up.
    """
    global _shared  # noqa: PLW0603, like the process group that it belongs to
    _shared = SharedMemory.start(seconds)


def add_over_ranks(value: Shaped[Tensor, "*d"]) -> Shaped[Tensor, "*d"]:
    """The sum of all ranks' values. Collective."""
    if _shared is not None and value.device.type == "cpu":
        total = _shared.add(value)
        if total is not None:
            return total
    dist.all_reduce(value)
    return value


def _all_to_all(
    value: Shaped[Tensor, "S *d"], send: list[int], receive: list[int] | None
) -> tuple[Shaped[Tensor, "T *d"], list[int]]:
    """Sends consecutive rows to the ranks; what arrived, and how many of each, unless that is known. Collective."""
    if _shared is not None and value.device.type == "cpu":
        arrived = _shared.all_to_all(value, send)
        if arrived is not None:
            return arrived
    if receive is None:
        count = torch.tensor(send, device=value.device)
        received = torch.empty_like(count)
        dist.all_to_all_single(received, count)
        receive = received.tolist()
    rows = value.new_empty((sum(receive), *value.shape[1:]))
    dist.all_to_all_single(rows, value.contiguous(), output_split_sizes=receive, input_split_sizes=send)
    return rows, receive
