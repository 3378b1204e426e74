"""ModelSite: the surroundings of a model."""

from dataclasses import dataclass

import torch

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
    fills_entities: bool = True
    """Whether entity rows get initial values; False if a checkpoint is loaded next, and they stay zeros until then."""
