"""Two ranks with replicated rows, of which steps reach those of the first rank alone."""

import pytest
import torch
from torch import Tensor

from embedding.model import KGEModel
from graph.batch import Batch
from tests.embedding.test_optimizer import CLIPS, OPTIMIZERS, RELATIONS, all_parameters, tiny_model
from tests.pretended_gpu.collectives import nccl_rules
from tests.pretended_gpu.pretending import pretended_gpu
from tests.pretended_gpu.test_ranks import pretending_rank
from tests.ranks import run_on_ranks
from tests.worlds import batch_of, one_rank
from trainer.runtime import Runtime

CASES = [(name, clip) for name in OPTIMIZERS for clip in CLIPS]


def reaching(entity: Tensor) -> Batch:
    """Positives of these entities."""
    relation = torch.arange(len(entity)) % RELATIONS
    return batch_of(torch.stack([entity, relation, entity.roll(1)], dim=1), heads=2)


def loss_of(model: KGEModel, batch: Batch) -> Tensor:
    """Negatives are heads and tails of the batch, so that nothing else is reached."""
    positive, negative = model.score(batch, torch.stack([batch.head, batch.tail], dim=1))
    return batch.share_of_mean((2.0 - positive[:, None] + negative).square().mean(1))


def trained(runtime: Runtime, name: str, clip: float | None) -> Tensor:
    model = tiny_model(runtime, max_norm=1.0, storage="replicated")
    optimizer = OPTIMIZERS[name](model, clip_norm=clip)
    entity = model.site.placement.entity_of_row
    # Adam's moments of all rows are above 0 after the first step.
    for reached in (entity, entity[:4], entity[:5], entity):
        batch = runtime.share(reaching(reached))
        loss_of(model, batch).backward()
        optimizer.step()
    return all_parameters(model).cpu()


def train_all(rank: int, world_size: int) -> list[Tensor]:
    with pretended_gpu(), nccl_rules():
        return [trained(pretending_rank(rank, world_size), *case) for case in CASES]


@pytest.mark.slow
def test_a_rank_whose_rows_no_step_reaches_moves_none() -> None:
    alone = [trained(one_rank(), *case) for case in CASES]
    for found in run_on_ranks(2, train_all):
        for case, mine, expected in zip(CASES, found, alone, strict=True):
            torch.testing.assert_close(
                mine, expected, rtol=1e-12, atol=1e-13, msg=lambda text, case=case: f"{case}: {text}"
            )
