"""Base of regularisers that penalise the size of the embeddings that a positive uses."""

from abc import abstractmethod

from jaxtyping import Float, Float64, Int64
from torch import Tensor

from discriminator.term.term import Term
from embedding.model import KGEModel
from graph.batch import Batch
from graph.errors import InputError
from graph.statistics import RelationStatistics


class RowPenalty(Term):
    """weight * (size of head's row + size of tail's row) + relation_weight * size of relation's row, for each positive.

    With by_frequency=true a row is penalised once for each train triple that uses it. That is the frequency-weighted
    form of Lacroix et al. (ICML 2018) and LibKGE (`regularize_args.weighted: True`). With by_frequency=false each use
    is divided by the row's number of uses and multiplied by the average number of uses. So all rows that train uses get
    the same total penalty, and a weight means the same in both forms.

    Args:
        statistics: of the train triples.
        weight: weight of the rows of entities, at least 0; 0: no penalty.
        relation_weight: weight of the rows of relations, at least 0; 0: no penalty; None: the same as `weight`.
        by_frequency: penalise rows that train uses more often more.
    """

    name: str

    def __init__(
        self, statistics: RelationStatistics, *, weight: float, relation_weight: float | None, by_frequency: bool
    ) -> None:
        for key, value in (("weight", weight), ("relation_weight", relation_weight)):
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"terms.{self.name}.{key} must be at least 0, got {value}")
        self.weight = weight
        self.relation_weight = weight if relation_weight is None else relation_weight
        if self.weight == self.relation_weight == 0:
            raise InputError(f"terms.{self.name}.weight is 0 for entities and relations: leave the term out instead")
        self.entity_share = None if by_frequency else _equal_shares(statistics.entity_degree)
        self.relation_share = None if by_frequency else _equal_shares(statistics.relation_triples)

    @abstractmethod
    def size(self, row: Float[Tensor, "B W"], components: int) -> Float[Tensor, " B"]:
        """The size of each row.

        Args:
            components: real numbers that make up one number of the row: 1 for real, 2 for complex numbers, 4 for
                quaternions. The row holds the first components of all numbers, then the second ones, and so on.
        """

    def __call__(self, model: KGEModel, batch: Batch) -> Float[Tensor, " B"]:
        """See `Term`."""
        head, relation, tail = model.triple_rows(batch)
        of_entity, of_relation = model.scoring.entity_components, model.scoring.relation_components
        head_size, tail_size = self.size(head, of_entity), self.size(tail, of_entity)
        relation_size = self.size(relation, of_relation)
        if self.entity_share is not None:
            head_size = head_size * self.entity_share.to(head_size)[batch.head]
            tail_size = tail_size * self.entity_share.to(tail_size)[batch.tail]
        if self.relation_share is not None:
            relation_size = relation_size * self.relation_share.to(relation_size)[batch.relation]
        return self.weight * (head_size + tail_size) + self.relation_weight * relation_size


def _equal_shares(uses: Int64[Tensor, " K"]) -> Float64[Tensor, " K"]:
    """The factor of one use of each row: equal totals for all rows that are used, and 1 on average over the uses."""
    used = uses.clamp(min=1).double()
    return used.reciprocal() * uses.sum() / (uses > 0).sum().clamp(min=1)
