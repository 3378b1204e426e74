"""Communication of a partitioned table: rows go from owners to other ranks, gradients go back to the owners.

Every function here is collective: all ranks must call it together, also those that need no rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from embedding.shared_memory import SharedMemory
from graph.transfer import sent

_shared: SharedMemory | None = None
_sent = 0


@dataclass(frozen=True)
class Route:
    """Which rows each rank wants from each other rank. Rows are sent along it, and their gradients back."""

    wanted: list[int]
    """For each rank, the number of its rows that this rank wants."""
    asked: list[int]
    """For each rank, the number of this rank's rows that it wants."""
    local_row: Int64[Tensor, " K"]
    """Indices of the wanted rows in this rank's block, grouped by the rank that wants them; K = sum(asked)."""


def plan_route(row: Int64[Tensor, " U"], block: int) -> Route:
    """Tells the owners which rows are wanted. Collective.

    Args:
        row: distinct rows of the whole table, ascending, so that they are grouped by owner.
        block: rows that a rank owns; rank k owns [k * block, (k + 1) * block).
    """
    stop = torch.arange(1, dist.get_world_size() + 1, device=row.device) * block
    wanted = torch.searchsorted(row, stop).diff(prepend=stop.new_zeros(1)).tolist()
    arrived, asked = _all_to_all(row, wanted, None)
    return Route(wanted, asked, arrived - dist.get_rank() * block)


def fetch_rows(weight: Shaped[Tensor, "L D"], route: Route) -> Shaped[Tensor, "U D"]:
    """The wanted rows, in the order of `row` in `plan_route`. Collective."""
    if _shared is not None and weight.device.type == "cpu":
        rows = _shared.fetch(weight, route.local_row, route.asked, route.wanted)
        if rows is not None:
            _count(weight[:0], _of_others(route.asked))
            return rows
        return _through_group(weight.index_select(0, route.local_row), route.asked, route.wanted)[0]
    return _all_to_all(weight.index_select(0, route.local_row), route.asked, route.wanted)[0]


def room_to_deliver(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Shaped[Tensor, "..."]:
    """A tensor to fill for `deliver_parts`. Until that is called, no other function here may be."""
    if _shared is not None and device.type == "cpu":
        return _shared.room(shape, dtype)
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def deliver_parts(
    value: Shaped[Tensor, "U D"], route: Route
) -> list[tuple[Int64[Tensor, " _"], Shaped[Tensor, "_ D"]]]:
    """What `deliver_rows` does, in parts: each has some of `route.local_row`, and their values. Collective.

    The values may be in memory that the next exchange overwrites.

    Args:
        value: from `room_to_deliver`, or any other tensor, which is copied once more.
    """
    if _shared is not None and value.device.type == "cpu":
        arrived = _shared.deliver(value, route.wanted)
        if arrived is not None:
            _count(value[:0], _of_others(route.wanted))
            return list(zip(route.local_row.split(route.asked), arrived, strict=True))
        return [(route.local_row, _through_group(value, route.wanted, route.asked)[0])]
    return [(route.local_row, deliver_rows(value, route))]


def deliver_rows(value: Shaped[Tensor, "U D"], route: Route) -> Shaped[Tensor, "K D"]:
    """Sends one value for each wanted row, such as its gradient, to its owner. Collective.

    Returns:
        The values that arrived here; value k is for row `route.local_row[k]`.
    """
    return _all_to_all(value, route.wanted, route.asked)[0]


def gather_ranks(value: Shaped[Tensor, "B *d"], world_size: int) -> list[Shaped[Tensor, "_ *d"]]:
    """The tensors of all ranks, in the order of ranks; their numbers of rows may differ. Collective."""
    if world_size == 1:
        return [value]
    if _shared is not None and value.device.type == "cpu":
        gathered = _shared.gather(value)
        if gathered is not None:
            _count(value[:0], len(value) * (world_size - 1))
            return gathered
    everyone = value.repeat(world_size, *[1] * (value.dim() - 1))
    arrived, sizes = _all_to_all(everyone, [len(value)] * world_size, None)
    return list(arrived.split(sizes))


def return_to_ranks(value: list[Shaped[Tensor, "_ *d"]], rank: int) -> Shaped[Tensor, "W B *d"]:
    """The reverse of `gather_ranks`: returns results to the rank whose rows they were computed from. Collective.

    Args:
        value: for each rank, this rank's results for its rows.
        rank: this rank.
    Returns:
        The results of all W ranks for this rank's B rows.
    """
    if len(value) == 1:
        return value[0][None]
    own = value[rank]
    arrived, _ = _all_to_all(torch.cat(value), [len(each) for each in value], [len(own)] * len(value))
    return arrived.view(len(value), *own.shape)


def sum_at_owners(value: Shaped[Tensor, "R *d"]) -> Shaped[Tensor, "B *d"]:
    """The sum of all ranks' values of this rank's rows, added in the order of ranks. Collective.

    Every size is known, so the host waits for nothing.

    Args:
        value: as many rows of each rank, B = R / W, in the order of ranks, from all W ranks.
    """
    first, *others = to_each_rank(value).chunk(dist.get_world_size())
    for each in others:
        first += each
    return first


def to_each_rank(value: Shaped[Tensor, "S *d"]) -> Shaped[Tensor, "S *d"]:
    """Sends an equal part of the rows to each rank; all ranks have as many. Collective.

    Every size is known, so the host waits for nothing.

    Returns:
        The parts that came from all ranks, in their order.
    """
    ranks = dist.get_world_size()
    equal = [len(value) // ranks] * ranks
    return _all_to_all(value, equal, equal)[0]


def copy_of_all(own: Shaped[Tensor, "B *d"], into: Shaped[Tensor, "R *d"]) -> None:
    """Fills `into` with the rows of all W ranks, B = R / W of each, in the order of ranks. Collective."""
    parts = into.view(dist.get_world_size(), *own.shape).unbind()
    _count(own[:0], len(own) * (len(parts) - 1))
    if _shared is not None and own.device.type == "cpu":
        gathered = _shared.gather(own)
        if gathered is not None:
            torch.cat(gathered, out=into)
            return
    dist.all_gather(list(parts), own)


def share_memory(seconds: float) -> None:
    """From now on, exchanges rows through shared memory if all ranks are on one machine. Collective.

    Args:
        seconds: how long a rank waits for another rank before it ends with an error.
    """
    global _shared  # noqa: PLW0603, like the process group that it belongs to
    _shared = SharedMemory.start(seconds)


def add_over_ranks(value: Shaped[Tensor, "*d"]) -> Shaped[Tensor, "*d"]:
    """The sum of all ranks' values, which takes the place of `value`. Collective."""
    if _shared is None or value.device.type != "cpu" or not _shared.add(value):
        dist.all_reduce(value)
    _count(value.view(-1)[:0], value.numel() * (dist.get_world_size() - 1))
    return value


def adding_over_ranks(value: Shaped[Tensor, "*d"]) -> torch.futures.Future[Tensor]:
    """What `add_over_ranks` gives, as soon as the group has it, while a GPU goes on with other work. Collective."""
    _count(value.view(-1)[:0], value.numel() * (dist.get_world_size() - 1))
    work = dist.all_reduce(value, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def _all_to_all(
    value: Shaped[Tensor, "S *d"], send: list[int], receive: list[int] | None
) -> tuple[Shaped[Tensor, "T *d"], list[int]]:
    """Sends the first send[0] rows to rank 0, the next send[1] to rank 1 and so on. Collective.

    Args:
        receive: how many rows come from each rank; None if this is not known.
    Returns:
        The rows that arrived, and how many came from each rank.
    """
    if _shared is not None and value.device.type == "cpu":
        arrived = _shared.all_to_all(value, send)
        if arrived is not None:
            _count(value[:0], _of_others(send))
            return arrived
    return _through_group(value, send, receive)


def _through_group(
    value: Shaped[Tensor, "S *d"], send: list[int], receive: list[int] | None
) -> tuple[Shaped[Tensor, "T *d"], list[int]]:
    """What `_all_to_all` does, by the process group."""
    _count(value[:0], _of_others(send))
    if receive is None:
        count = sent(torch.tensor(send), value.device)
        received = torch.empty_like(count)
        dist.all_to_all_single(received, count)
        receive = received.tolist()
    rows = value.new_empty((sum(receive), *value.shape[1:]))
    dist.all_to_all_single(rows, value.contiguous(), output_split_sizes=receive, input_split_sizes=send)
    return rows, receive


def bytes_sent() -> int:
    """Bytes of rows, gradients and sums that this rank has sent to others. A sum counts once for each other rank."""
    return _sent


def _count(rows: Shaped[Tensor, "0 *d"], number: int) -> None:
    """Counts so many rows like these."""
    global _sent  # noqa: PLW0603, like the shared memory
    _sent += number * rows.element_size() * rows.shape[1:].numel()


def _of_others(numbers: list[int]) -> int:
    return sum(numbers) - numbers[dist.get_rank()]
