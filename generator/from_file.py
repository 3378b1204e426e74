"""Negatives that the user wrote down, such as hard ones from another system or wrong triples that people checked.

Safavi and Koutra (CoDEx: A comprehensive knowledge graph completion benchmark, EMNLP 2020) publish such files.
"""

import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from generator.pooled import PooledSampler
from generator.sampler import SamplerContext
from graph.answer_index import per_positive
from graph.batch import Batch
from graph.entity_sets import EntitySets
from graph.errors import InputError
from graph.int32_ids import expect_int32_ids
from graph.known import KnownTriples
from graph.leaks import count_repeated
from graph.named_triples import read_named

log = logging.getLogger(__name__)


class FromFileSampler(PooledSampler):
    """Draws uniformly, with replacement, from the negatives that a file has for a positive's query.

    Each triple (h, r, t) of the file is wrong. So t is a negative tail of all positives with (h, r), and h a negative
    head of all positives with (r, t). A query without negatives in the file gets uniform ones; the log says how many
    queries have some. `propose` returns entities [B, N]. The lists take 8 bytes a triple of the file.

    The file may have facts of valid or test. They are drawn like all others, as any sampler draws such false
    negatives: leaving them out would tell the model which triples are right. A run says how many there are.

    Args:
        file: triples of names: text with tabs or commas, N-Triples or Parquet, without a header.
        options: see `PooledSampler`. With `uniform_share=0` most targets can't be drawn, so `Negatives.proposal` is
            None. `mask_known` and `redraw_known` also concern train facts in the file.

    Raises:
        InputError: the file can't be read, or has a name that the graph does not have.
    """

    def __init__(self, context: SamplerContext, *, file: str | None, **options: Any) -> None:
        super().__init__(context, **options)
        expect_int32_ids("generator=from_file", context.num_entities)
        if file is None:
            raise InputError("generator.file must name a file of negative triples, as in negatives.tsv, got null")
        self._given = read_named(Path(file), context.entity_names, context.relation_names, "generator.file")
        self.lists = KnownTriples.of(self._given.to(context.site.device), context.num_entities, context.num_relations)
        heads, tails = self.lists.heads, self.lists.tails
        # Set 0 is empty, for queries without a list; then the heads of each (relation, tail), then the tails.
        heads_offset, tails_offset = heads.offset.long(), tails.offset.long()
        offset = torch.cat([heads_offset[:1], heads_offset, len(heads.answer) + tails_offset[1:]])
        self.sets = EntitySets(offset, torch.cat([heads.answer, tails.answer]))
        self._tell(file)

    def _tell(self, file: str) -> None:
        known, lists = self.context.known, self.lists
        listed = total = 0
        for asked, has in ((known.heads, lists.heads), (known.tails, lists.tails)):
            listed += int(torch.isin(asked.query, has.query).sum())
            total += len(asked.query)
        facts = count_repeated(self._given, self.context.train)
        log.info(
            "%s: %s triples; %s of %s queries of train have negatives there, the others get uniform ones%s",
            Path(file).name,
            f"{len(self._given):,}",
            f"{listed:,}",
            f"{total:,}",
            f"; {facts:,} of the triples are train facts" if facts else "",
        )

    @property
    def given(self) -> Int64[Tensor, "K 3"]:
        """The triples of the file."""
        return self._given

    def _set(self, batch: Batch) -> Int64[Tensor, " B"]:
        """The number of each positive's set of negatives; 0 if it has none."""
        split = batch.head_rows
        heads = self.lists.heads.rows(batch.tail[:split], batch.relation[:split])
        tails = self.lists.tails.rows(batch.head[split:], batch.relation[split:])
        return torch.cat([heads + 1, torch.where(tails < 0, 0, tails + 1 + len(self.lists.heads.query))])

    def draw_own(self, batch: Batch, purpose: str) -> Int64[Tensor, "B N"]:
        """See `PooledSampler.draw_own`."""
        return self.sets.draw(self._set(batch), batch.uniform_per_positive(purpose, self.num_negatives))

    @property
    def knows_proposal(self) -> bool:
        """True if every entity can be drawn, and train facts are not redrawn."""
        return self.uniform_share > 0 and super().knows_proposal

    def log_probability(self, batch: Batch, entity: Int64[Tensor, "C N"]) -> Float64[Tensor, "B N"] | None:
        """See `StaticSampler.log_probability`; None if `uniform_share` is 0."""
        if self.uniform_share == 0:
            return None
        number = self._set(batch)
        size = self.sets.size(number)[:, None].double()
        own = self.sets.contains(number, per_positive(entity, len(number))) / size.clamp(min=1)
        share = torch.where(size > 0, self.uniform_share, 1.0)
        return (share / self.context.num_entities + (1 - share) * own).log()

    def state(self) -> dict[str, Tensor]:
        """A checksum of the file's triples: a resumed run must have the same."""
        return {"file": torch.tensor([zlib.crc32(self._given.numpy().data)])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError if the file had other triples when the state was saved."""
        if not state["file"].equal(self.state()["file"]):
            raise ValueError("generator.file has other triples than when the run was started")
