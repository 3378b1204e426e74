"""The distinct train facts that an encoder makes edges of, numbered."""

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from graph.batch import Batch
from graph.errors import InputError


class TrainFacts:
    """The F distinct train facts, numbered in the order (head, relation, tail).

    Args:
        train: the triples as ids.
        device: of the facts.
    Raises:
        InputError: the graph has so many possible edges that they can't be numbered in 63 bits.
    """

    def __init__(
        self, train: Int[Tensor, "T 3"], num_entities: int, num_relations: int, *, device: torch.device
    ) -> None:
        if num_entities**2 * 2 * num_relations >= 1 << 63:
            raise InputError(
                f"encoder: entities^2 * 2 * relations must be below 2^63, got {num_entities}^2 * 2 * {num_relations}: "
                "encoders are for smaller graphs"
            )
        self.num_entities = num_entities
        self.num_relations = num_relations
        self._key = torch.unique(self._keys(*train.long().unbind(1))).to(device)
        self.head: Int64[Tensor, " F"] = self._key // (num_relations * num_entities)
        self.relation: Int64[Tensor, " F"] = self._key // num_entities % num_relations
        self.tail: Int64[Tensor, " F"] = self._key % num_entities

    def __len__(self) -> int:
        return len(self._key)

    def numbers(self, batch: Batch) -> Int64[Tensor, " K"]:
        """The numbers of the batch's positives, without padding; ascending, each once.

        Args:
            batch: on the device of the facts. Every positive must be a train fact.
        """
        real = batch.weight > 0
        key = self._keys(batch.head[real], batch.relation[real], batch.tail[real])
        return torch.searchsorted(self._key, torch.unique(key))

    def _keys(
        self, head: Int64[Tensor, " B"], relation: Int64[Tensor, " B"], tail: Int64[Tensor, " B"]
    ) -> Int64[Tensor, " B"]:
        return (head * self.num_relations + relation) * self.num_entities + tail
