"""EncoderChoice: what a run says of its encoder, before there is a model."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from embedding.encoder.edges import TrainEdges
from embedding.encoder.encoder import Encoder, EncoderSite
from embedding.encoder.encoding import Encoding
from embedding.encoder.facts import TrainFacts
from embedding.encoder.full_graph import FullGraphEncoding
from embedding.encoder.incoming import IncomingEdges
from embedding.encoder.sampled import SampledEncoding
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
        encoder = self.make(
            EncoderSite(
                name=name,
                scoring=type(scoring).__name__,
                entity_width=scoring.entity_width - scoring.entity_biases,
                relation_width=scoring.relation_width,
                num_relations=site.num_relations,
                reciprocal=reciprocal,
                device=site.device,
                seed=site.seed,
            )
        )
        entities = len(site.placement.row_of_entity)
        facts = TrainFacts(self.train, entities, site.num_relations, device=site.device, leave_out=encoder.leave_out)
        if encoder.fanout is None:
            edges = TrainEdges(facts, site.placement, **ranks, dtype=site.dtype)
            return FullGraphEncoding(encoder, edges, entity, scorer, **ranks)
        return SampledEncoding(encoder, IncomingEdges(facts), entity, scorer, **ranks)
