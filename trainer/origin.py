"""Where a run begins if not from initial values: at a checkpoint of a run on a smaller graph."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from embedding.frozen import RELATION, FrozenRows
from embedding.model import KGEModel


@dataclass(frozen=True)
class Renumbering:
    """The ids that the entities and the relations of a smaller graph have in this run."""

    entity: Int64[Tensor, " E_old"]
    relation: Int64[Tensor, " R_old"]

    def relation_rows(self, model: KGEModel) -> dict[str, Int64[Tensor, " R_"]]:
        """By dense tensor that has rows of relations: the rows that the checkpoint's rows become, in their order."""
        count = model.site.num_relations
        return {
            name: torch.cat([self.relation + number * count for number in range(times)])
            for name, times in model.rows_of_a_relation().items()
        }


@dataclass(frozen=True)
class Origin:
    """A checkpoint of a run on a smaller graph."""

    checkpoint: Path
    renumbering: Renumbering
    freezes: bool
    """Whether the rows that it has stay as they are, and only those of new entities and relations learn."""

    def freeze(self, model: KGEModel) -> None:
        """Lets only the rows of a model learn that the checkpoint does not have."""
        table = model.entity
        known = torch.zeros(len(table.row_of_entity), dtype=torch.bool, device=table.entity.device)
        known[self.renumbering.entity] = True
        relation = torch.zeros(len(model.scorer.relation), dtype=torch.bool, device=table.entity.device)
        relation[self.renumbering.relation_rows(model)[RELATION]] = True
        model.frozen = FrozenRows(known[table.entity], relation, model.dense_tensors(), model.rows_of_a_relation())
