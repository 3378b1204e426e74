"""InitialRows: the entity and relation rows that a model begins with, as its options describe them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from embedding.initial import InitialValues
from embedding.scoring.scoring import ScoringFunction
from embedding.site import ModelSite
from embedding.table import EmbeddingTable
from graph.counter_random import combine, stream
from graph.errors import InputError


@dataclass(frozen=True)
class InitialRows:
    """Makes new rows. Their values are a function of the seed, the model's name, and the entity or relation.

    Args:
        name: the model's name; part of the key of random numbers, and in front of errors.
        scoring: has the default range of each part of a row.
        init, init_scale, relation_init_scale: see `KGEModel`.
    Raises:
        InputError: a scale that is not positive; `table` also raises it, and for an unknown `init`.
    """

    name: str
    scoring: ScoringFunction
    init: str
    init_scale: float | None
    relation_init_scale: float | None

    def __post_init__(self) -> None:
        scale = self.relation_init_scale
        if scale is not None and not 0 < scale < float("inf"):
            raise InputError(f"{self.name}.relation_init_scale must be a positive number or null, got {scale}")

    def table(self, site: ModelSite) -> EmbeddingTable:
        """A table of entity rows; they are zeros if a checkpoint is loaded next."""
        own, num_entities = self._widths(self.scoring.entity_parts), len(site.placement.row_of_entity)
        initial = InitialValues.of(self.init, self.init_scale, own, num_entities, key=self.name)
        return EmbeddingTable(
            f"{self.name} entity",
            site.placement,
            self.scoring.entity_width,
            rank=site.rank,
            world_size=site.world_size,
            initial=initial if site.fills_entities else None,
            seed=site.seed,
            dtype=site.dtype,
            device=site.device,
            storage=site.storage,
            rounding=site.rounding,
        )

    def relations(self, num_rows: int, seed: int) -> Float64[Tensor, "R_ R"]:
        """Relation rows, on the CPU."""
        own, scale = self._widths(self.scoring.relation_parts), self.relation_init_scale
        initial = InitialValues.of("uniform" if scale is None else self.init, scale, own, num_rows, key=self.name)
        counter = combine(torch.arange(num_rows)[:, None], torch.arange(self.scoring.relation_width))
        return initial(stream(f"{self.name} relation", seed), counter)

    def _widths(self, parts: dict[str, int]) -> Float64[Tensor, " W"]:
        """The scoring function's default for each number of a row: it starts uniform in +- this."""
        widths = torch.tensor([self.scoring.part_init_range(part) for part in parts], dtype=torch.float64)
        return widths.repeat_interleave(torch.tensor(list(parts.values())))
