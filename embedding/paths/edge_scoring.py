"""The interface of scoring functions that score a query from the edges around it, and learn no vector of an entity."""

from abc import abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from embedding.encoder.facts import LeaveOut, TrainFacts
from embedding.encoder.incoming import IncomingEdges
from embedding.scoring.candidates import Candidates
from embedding.scoring.network import NetworkScoring
from embedding.training_step import TrainingStep
from graph.batch import Batch
from graph.errors import InputError
from kernels.paths import OutEdges


class EdgeScoring(NetworkScoring):
    """Scores a query (entity, relation) with all entities at once.

    An entity's row is its number, which nothing moves. The vector of a query has its score with each entity, so Q is
    the number of entities, and a candidate's score is read at its number. Tables, samplers, losses and ranking need
    not know of it. Queries for heads are queries for tails of inverse relations, so `reciprocal` must be true.

    Call `read` before anything else: then the parameters are made.

    Args:
        leave_out: which edges a training step leaves out; see `LeaveOut`.
    Raises:
        InputError: leave_out is neither.
    """

    def __init__(self, dim: int, relation_parts: dict[str, int], *, leave_out: str) -> None:
        super().__init__(dim, {"number": 1}, relation_parts)
        if leave_out not in list(LeaveOut):
            raise InputError(f"leave_out must be one of {', '.join(LeaveOut)}, got {leave_out}")
        self.left_out = LeaveOut(leave_out)
        """What a training step leaves out."""

    @property
    def differs_in_training(self) -> bool:
        """False: neither batch norm nor dropout is inside."""
        return False

    def read(self, facts: TrainFacts) -> None:
        """Takes the edges of these facts, in both directions, and makes the parameters that depend on relations.

        Relation r + R is the inverse of r, one of R.
        """
        self._incoming = incoming = IncomingEdges(facts)
        count = facts.num_relations
        # Each edge has its inverse, so the edges out of an entity are the inverses of those into it.
        away = torch.where(incoming.relation < count, incoming.relation + count, incoming.relation - count)
        kept = torch.ones_like(away, dtype=torch.bool)
        self.edges = OutEdges(incoming.start, incoming.source, away.int(), kept, 2 * count)
        """The edges that scores are made from."""
        self.most_of_one = int(incoming.start.diff().max())
        """The most edges out of one entity."""
        self.make_parameters(2 * count)

    @abstractmethod
    def make_parameters(self, num_relations: int) -> None:
        """Makes the parameters; there are as many relations, with inverse ones."""

    def leave_out(self, batch: Batch) -> None:
        """Leaves out edges for a training step, so that no positive can be read off its own.

        Args:
            batch: the global batch, on the device of the edges. Every positive must be a train fact.
        """
        kept = torch.ones_like(self.edges.kept)
        kept[self._incoming.of_fact[:, self._incoming.facts.left_out(batch)]] = False
        self.edges = replace(self.edges, kept=kept)

    def use_all(self) -> None:
        """Takes all edges, for all but training steps."""
        self.edges = replace(self.edges, kept=torch.ones_like(self.edges.kept))

    @abstractmethod
    def with_all(self, entity: Int64[Tensor, " B"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """The score of each query with each entity, by number. The same operations run for no queries, as for many."""

    def tail_query(self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> Float[Tensor, "B Q"]:
        """The scores with all entities."""
        return self.with_all(head[:, 0].long(), relation)

    def head_query(self, tail: Float[Tensor, "B E"], relation: Float[Tensor, "B R"]) -> None:
        """There is none: heads are tails of inverse relations."""
        return

    def training_queries(
        self, head: Float[Tensor, "B E"], relation: Float[Tensor, "B R"], step: TrainingStep
    ) -> Float[Tensor, "B Q"]:
        """See `NetworkScoring.training_queries`."""
        return self.with_all(head[:, 0].long(), step.drop_relation(relation))

    def compare(self, query: Float[Tensor, "B Q"], candidates: Candidates) -> Float[Tensor, "B N"]:
        """The scores at the candidates' numbers."""
        number = candidates.rows()[:, :, 0].long()
        shared = number.repeat_interleave(len(query) // max(len(number), 1), dim=0)
        return query.gather(1, shared)

    def score(
        self, head: Float[Tensor, "*#b E"], relation: Float[Tensor, "*#b R"], tail: Float[Tensor, "*#b E"]
    ) -> Float[Tensor, "*b"]:
        """Makes the scores with all entities, and takes that with the tail."""
        shape = torch.broadcast_shapes(head.shape[:-1], relation.shape[:-1], tail.shape[:-1])
        given = (each.expand(*shape, -1).reshape(-1, each.shape[-1]) for each in (head, relation, tail))
        head, relation, tail = given
        return self.tail_query(head, relation).gather(1, tail.long()).view(shape)
