"""Models whose entity rows are numbers, because their scoring function reads edges: see `EdgeScoring`."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from embedding.encoder.facts import TrainFacts
from embedding.learned_rows import LearnedRows
from embedding.paths.edge_scoring import EdgeScoring
from embedding.site import ModelSite
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer
from graph.batch import Batch
from graph.errors import InputError
from kernels.row_gradient import RowGradient

_WITHOUT_VECTORS = {"max_norm": None, "entity_dropout": 0.0}
"""Options that must have these values, because they are about vectors of entities."""


def check_edge_model(name: str, options: Mapping[str, Any], *, has_encoder: bool) -> None:
    """Raises InputError for options of a model that make no sense without vectors of entities.

    Args:
        name: the model's name, which is its config key.
        options: max_norm, entity_dropout and reciprocal.
    """
    if has_encoder:
        raise InputError(f"encoder must be null with this {name}, which learns no entity vectors: leave out encoder")
    for key, value in _WITHOUT_VECTORS.items():
        if options[key] != value:
            given = "null" if value is None else value
            raise InputError(f"{name}.{key} must be {given}: this model has no entity vectors, got {options[key]}")
    if not options["reciprocal"]:
        raise InputError(f"{name}.reciprocal must be true, got False: heads are found as tails of the inverse relation")


def read_edges(name: str, scoring: EdgeScoring, site: ModelSite) -> None:
    """Gives the scoring function the edges of train.

    Raises:
        InputError: the type of the rows can't number all entities, or they are on disk.
    """
    entities = len(site.placement.row_of_entity)
    most = round(2 / torch.finfo(site.dtype).eps)
    if entities > most:
        kind = str(site.dtype).removeprefix("torch.")
        raise InputError(f"{name}: dtype={kind} can number {most:,} entities, got {entities:,}; take dtype=float64")
    if site.storage is not None:
        raise InputError(f"{name}: placement.storage must be memory: there are no entity vectors to keep on disk")
    train = torch.empty((0, 3), dtype=torch.int64) if site.train is None else site.train
    scoring.read(TrainFacts(train, entities, site.num_relations, device=site.device, leave_out=scoring.left_out))


class NumberedRows(LearnedRows):
    """An entity's row is its number, so only relation rows are learned.

    Args:
        entity, scorer: see `LearnedRows`.
        scoring: has the edges of train, some of which a training step leaves out.
        device: where the edges are.
    """

    def __init__(
        self, entity: EmbeddingTable, scorer: TripleScorer, scoring: EdgeScoring, device: torch.device
    ) -> None:
        super().__init__(entity, scorer)
        self._scoring = scoring
        self._device = device
        with torch.no_grad():
            entity.weight[:, 0] = entity.entity.to(entity.weight.dtype)

    @property
    def weight(self) -> Float[Tensor, "L 0"]:
        """No columns."""
        return self._entity.weight[:, :0]

    @weight.setter
    def weight(self, rows: Float[Tensor, "L 0"]) -> None: ...

    @property
    def relation(self) -> nn.Parameter:
        """See `LearnedRows.relation`."""
        return self._scorer.relation

    def take_gradient(self) -> RowGradient:
        """The gradient of no rows."""
        self._entity.take_gradient()
        return RowGradient.of([], self.weight)

    def encode(self) -> None:
        """Takes all edges again."""
        self._scoring.use_all()

    def begin_step(self, batch: Batch) -> None:
        """Leaves out the edges of the step's positives."""
        self._scoring.leave_out(batch.to(self._device))
