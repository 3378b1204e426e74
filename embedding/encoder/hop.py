"""What a layer sees of the graph: which rows it makes, and the edges into them."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int64
from torch import Tensor

from embedding.encoder.edges import Edges


class Hop(ABC):
    """The edges of one layer, between the K rows that it gets and the L rows that it makes.

    Args:
        edges: into the entities whose rows the layer makes.
        entity: these entities.
    """

    def __init__(self, edges: Edges, entity: Int64[Tensor, " L"]) -> None:
        self.edges = edges
        self.entity = entity

    @abstractmethod
    def own(self, rows: Float[Tensor, "K D"]) -> Float[Tensor, "L D"]:
        """Of the rows that the layer gets, those of the entities whose rows it makes; differentiable."""

    @abstractmethod
    def sources(self, rows: Float[Tensor, "K D"]) -> Float[Tensor, "U D"]:
        """The rows that `Edges.source` counts, from rows that were made of those that the layer gets; differentiable.

        Collective when all ranks make rows of one graph together, and so is its backward.
        """
