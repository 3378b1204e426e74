"""EncoderChoice: what a run says of its encoder, before there is a model."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from embedding.encoder.edges import TrainEdges
from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.encoding import Encoding
from embedding.encoder.neighbours import Neighbours
from embedding.site import ModelSite
from embedding.table import EmbeddingTable
from embedding.triple_scorer import TripleScorer


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder to be put in front of a model.

    Args:
        make: makes the encoder; raises InputError for an option out of range.
        train: the triples whose edges it uses, as ids.
    """

    make: Callable[[EncoderSite], Encoder]
    train: Int[Tensor, "T 3"]

    def in_front_of(
        self, entity: EmbeddingTable, scorer: TripleScorer, site: ModelSite, *, name: str, reciprocal: bool
    ) -> Encoding:
        """Makes the encoder and puts it in front of a new model's tables. Collective when partitioned.

        Args:
            name: the model's name.
            reciprocal: whether the model has a relation row for each inverse relation.
        Raises:
            InputError: an option out of range, or a scoring function that the encoder can't take.
        """
        scoring = scorer.scoring
        ranks = {"rank": site.rank, "world_size": site.world_size}
        edges = TrainEdges(
            self.train, site.num_relations, site.placement, **ranks, device=site.device, dtype=site.dtype
        )
        block = site.placement.block_size(site.world_size)
        encoder = self.make(
            EncoderSite(
                name=name,
                scoring=type(scoring).__name__,
                entity=entity.entity,
                entity_width=scoring.entity_width,
                relation_width=scoring.relation_width,
                num_relations=site.num_relations,
                reciprocal=reciprocal,
                neighbours=Neighbours(edges.sources, block=block, world_size=site.world_size),
                device=site.device,
                seed=site.seed,
            )
        )
        return Encoding(encoder, edges, entity, scorer, **ranks)
