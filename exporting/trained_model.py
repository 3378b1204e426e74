"""TrainedModel: what an export is made of, with entity rows that are read a block at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from embedding.model import KGEModel
from embedding.scoring.scoring import ScoringFunction
from graph.knowledge_graph import KnowledgeGraph
from trainer.saved_rows import TrainedRows

_BLOCK_NUMBERS = 1 << 22
"""Numbers in a block of rows: 16 MB in float32."""
_QUIET_SECONDS = 3.0


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and its graph.

    Args:
        model: all but entity rows, which need not be in its table.
        rows: the entity rows.
        checkpoint: the folder that they come from.
    """

    graph: KnowledgeGraph
    model: KGEModel
    rows: TrainedRows
    checkpoint: Path

    @property
    def scoring(self) -> ScoringFunction:
        """The scoring function, with its trained parameters."""
        return self.model.scoring

    @property
    def dtype(self) -> torch.dtype:
        """The type of entity rows, in which scores are computed."""
        return self.model.site.dtype

    @property
    def entity_parts(self) -> Mapping[str, int]:
        """The names of the parts of an entity row, and how many numbers each has."""
        return self.scoring.entity_parts

    @cached_property
    def relation_names(self) -> list[str]:
        """The name of each relation row. With reciprocal relations NAME_reciprocal for each name follows at the end."""
        names = list(self.graph.relation_names)
        return [*names, *(f"{name}_reciprocal" for name in names)] if self.model.reciprocal else names

    @cached_property
    def relation_rows(self) -> Float[Tensor, "R_ R"]:
        """All relation rows. They are float64 while training; this is what scores are computed from."""
        return self.model.scorer.relation.detach().to(self.dtype)

    @cached_property
    def relation_parts(self) -> dict[str, Tensor]:
        """The parts of the relation rows by name, [R, numbers] each."""
        return split_rows(self.relation_rows, self.scoring.relation_parts)

    @cached_property
    def shared(self) -> dict[str, Tensor]:
        """The parameters that all triples share, such as TuckER's `core`, and running statistics, by name."""
        return {name: each.detach().to(self.dtype) for name, each in self.scoring.state_dict().items()}

    def entity_blocks(self) -> Iterator[tuple[int, Float[Tensor, "n E"]]]:
        """Pairs (id of the first entity, entity rows), in the order of ids.

        On a terminal, a progress bar appears after 3 seconds.

        Raises:
            InputError: the checkpoint has numbers that are not finite, or can't be read.
        """
        size, first = max(1, _BLOCK_NUMBERS // self.scoring.entity_width), 0
        # disable=None: tqdm checks whether the output is a terminal.
        with tqdm(
            total=self.graph.num_entities, unit="entity", unit_scale=True, delay=_QUIET_SECONDS, disable=None
        ) as bar:
            for rows in self.rows.blocks(size):
                yield first, rows
                first += len(rows)
                bar.update(len(rows))


def split_rows(rows: Float[Tensor, "n W"], parts: Mapping[str, int]) -> dict[str, Tensor]:
    """The parts of rows by name, [n, numbers] each.

    Args:
        parts: how many numbers each part has, in their order in a row.
    """
    return dict(zip(parts, rows.split(list(parts.values()), dim=1), strict=True))
