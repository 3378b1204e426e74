"""Neighbour blocks: the entities and edges that the layers need to make the rows of some entities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.encoder.hop import Hop
from embedding.encoder.incoming import Draw, KeptEdges


class BlockHop(Hop):
    """A layer gets the rows of some entities, and makes those of the first of them; see `Hop`."""

    def own(self, rows: Float[Tensor, "K D"]) -> Float[Tensor, "L D"]:
        """The first rows."""
        return rows[: len(self.entity)]

    def sources(self, rows: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
        """All rows: a block is on one rank."""
        return rows


@dataclass(frozen=True)
class Blocks:
    """What each layer sees of the graph, so that the last one makes the rows of the wanted entities."""

    entity: Int64[Tensor, " K"]
    """The entities whose learned rows the first layer gets. Those of a later layer are the first of these."""
    hops: list[BlockHop]


class BlockMaker:
    """Makes blocks; keeps a number for each entity of the graph in between.

    Args:
        num_entities: of the graph.
        dtype: of the weights of edges.
        device: of the entities.
    """

    def __init__(self, num_entities: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self._place = torch.full((num_entities,), -1, dtype=torch.int64, device=device)
        self._dtype = dtype

    def blocks(self, wanted: Int64[Tensor, " W"], edges: KeptEdges, draws: Sequence[Draw | None]) -> Blocks:
        """The blocks of some layers.

        Args:
            wanted: distinct entities whose rows the last of these layers makes.
            draws: how each layer draws its edges, the first layer first; None: it takes all.
        """
        place, entity, hops = self._place, wanted, list[BlockHop]()
        place[wanted] = torch.arange(len(wanted), device=wanted.device)
        for draw in reversed(draws):
            made = entity
            into = edges.into(made, draw, self._dtype)
            new = torch.unique(into.source[place[into.source] < 0])
            place[new] = torch.arange(len(made), len(made) + len(new), device=made.device)
            entity = torch.cat([made, new])
            hops.append(BlockHop(replace(into, source=place[into.source]), made))
        place[entity] = -1
        return Blocks(entity, hops[::-1])
