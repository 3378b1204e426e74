"""ModelSite: the surroundings of a model."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from embedding.rounding import Rounding
from embedding.storage import DiskStorage
from graph.partition import EntityPlacement


@dataclass(frozen=True)
class ModelSite:
    """The surroundings of a model that no option of the model sets: graph sizes, ranks, device, type and seed."""

    placement: EntityPlacement
    num_relations: int
    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype
    seed: int
    storage: DiskStorage | None = None
    """Keeps entity rows and their optimiser state on disk; None: they are in memory."""
    fills_entities: bool = True
    """Whether entity rows get initial values; False if a checkpoint is loaded next, and they stay zeros until then."""
    rounding: Rounding | None = None
    """Entity rows are kept in bfloat16, and rounded so when they are written; None: they are kept in `dtype`.

    Either way they are computed with in `dtype`, and their optimiser's state is in `dtype`.
    """
    train: Int[Tensor, "T 3"] | None = None
    """The triples of train, whose edges an `EdgeScoring` reads; None: there are none to read."""

    @property
    def part(self) -> tuple[int, int]:
        """(k, P): without asking others, a training step of this rank can read part k of P equal parts of the rows.

        (0, 1) if it has all of them: it is alone, or they are replicated.
        """
        return (0, 1) if self.placement.replicated else (self.rank, self.world_size)
