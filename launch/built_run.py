"""Run: the graph and the model of a run, and what is made of them when somebody asks for it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int32
from omegaconf import DictConfig
from torch import Tensor

from embedding.model import KGEModel
from generator.sampler import SamplerContext
from graph.bucket_file import sorted_by_shards
from graph.checked_file import checksum
from graph.knowledge_graph import KnowledgeGraph
from graph.known import KnownFacts, KnownTriples, together
from graph.shards import ShardStates
from graph.statistics import RelationStatistics
from trainer.evaluate import RankingEvaluator
from trainer.runtime import Runtime


@dataclass(frozen=True)
class Run:
    """The objects that train, evaluate and export need: config, graph, and the discriminator's model."""

    config: DictConfig
    runtime: Runtime
    graph: KnowledgeGraph
    discriminator: KGEModel

    @cached_property
    def context(self) -> SamplerContext:
        """What samplers get; made when it is first asked for, because only training needs it."""
        graph = self.graph
        return SamplerContext(
            num_entities=graph.num_entities,
            num_relations=graph.num_relations,
            known=graph.known.to(self.runtime.device),
            statistics=RelationStatistics.of_facts(graph.known, graph.num_entities),
            site=self.discriminator.site,
            train=graph.train,
            entity_names=graph.entity_names,
            relation_names=graph.relation_names,
        )

    @cached_property
    def positives(self) -> tuple[Int32[Tensor, "T 3"], ShardStates | None]:
        """Train, in the order of shards if only some of them are in memory, and the states of an epoch then."""
        placement = self.discriminator.site.placement
        if placement.disk is None or not placement.disk.has_states:
            return self.graph.train, None
        assert placement.disk.folder is not None
        folder, name = Path(placement.disk.folder), f"positives_{self.graph.fingerprint()}_{self.order_of_shards}"
        return self.runtime.first_then_others(lambda: sorted_by_shards(self.graph.train, placement, folder, name))

    @cached_property
    def order_of_shards(self) -> str:
        """What the states of an epoch depend on, besides the graph."""
        placement = self.discriminator.site.placement
        assert placement.disk is not None
        order = checksum({"order": placement.entity_of_row})
        return f"{placement.disk.resident}_of_{placement.disk.shards}_shards_anew_{order:08x}"

    @property
    def all_known(self) -> KnownFacts:
        """Train, valid and test facts: the filter of the final test ranking, used for nothing else."""
        return together(self.context.known, self._known("valid", "test"))

    @property
    def known_in_validation(self) -> KnownFacts:
        """Train and valid facts: the filter of validation, which must not use test facts."""
        return together(self.context.known, self._known("valid"))

    @property
    def held_out(self) -> KnownTriples:
        """Valid and test facts: used only to report how many negatives are among them."""
        return self._known("valid", "test")

    @property
    def hidden(self) -> KnownTriples | None:
        """True triples that are in no split, which only a synthetic graph has; used only to report false negatives."""
        graph = self.graph
        if not len(graph.hidden):
            return None
        return KnownTriples.of(graph.hidden.to(self.runtime.device), graph.num_entities, graph.num_relations)

    def _known(self, *splits: str) -> KnownTriples:
        triples = torch.cat([getattr(self.graph, split) for split in splits]).to(self.runtime.device)
        return KnownTriples.of(triples, self.graph.num_entities, self.graph.num_relations)

    def evaluator(self, known: KnownFacts) -> RankingEvaluator:
        """An evaluator that filters ranks by these facts."""
        return RankingEvaluator(known, self.runtime, memory_mb=self.config.trainer.evaluation_memory_mb)
