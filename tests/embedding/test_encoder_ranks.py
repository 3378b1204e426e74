"""Training with an encoder is the same on any number of ranks."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generator.nscaching import NSCachingSampler
from generator.uniform import UniformSampler
from graph.knowledge_graph import KnowledgeGraph
from tests.encoders import KINDS, LAYER, encoded, small_graph
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, context_of, graph_of, one_rank, order_of, player_of
from trainer.averaging.ema import EMA
from trainer.runtime import Runtime

GRAPH = small_graph()
ENCODER = partial(KINDS["compgcn mult"], **LAYER | {"dropout": 0.2, "residual": True})
NSCACHING = {
    "num_negatives": 2,
    "cache_size": 2,
    "fresh_size": 2,
    "temperature": 1.0,
    "select": "importance",
    "refresh_epochs": 1,
    "max_caches": None,
    "mask_known": False,
}
"""A sampler that scores candidates with the model that is trained."""


def train(
    rank: int, world_size: int, options: dict[str, Any], graph: KnowledgeGraph = GRAPH
) -> dict[str, tuple[list[float], dict[str, Tensor]]]:
    """With each encoder, the losses of some steps, and all that they changed."""
    runtime = Runtime(rank, world_size, torch.device("cpu"))
    return {kind: train_one(runtime, kind, options, graph) for kind in KINDS}


def train_one(
    runtime: Runtime, kind: str, options: dict[str, Any], graph: KnowledgeGraph
) -> tuple[list[float], dict[str, Tensor]]:
    model = encoded(kind, graph, runtime, dropout=0.2, **options)
    player = player_of(model)
    context = context_of(graph, model.site)
    if "fanout" not in options:
        sampler = UniformSampler(context, num_negatives=2, mask_known=False, redraw_known=False)
    else:
        sampler = NSCachingSampler(context, **NSCACHING)
    order = order_of(graph, sampler, batch_size=6)
    losses = []
    for number in range(4):
        whole = order.batch(number)
        player.begin_step(whole)
        batch = runtime.share(whole)
        verdict = player.judge(batch, sampler.propose(batch, partial(player.score_candidates, batch)))
        losses.append(float(runtime.add(verdict.loss.detach().clone()[None])))
        player.learn(verdict)
    model.encode()
    values = {name: value.detach().clone() for name, value in model.dense_tensors().items()}
    values["learned entities"] = model.entity.gather_all(model.learned_rows.detach())
    values["entities"] = model.entity.gather_all(model.entity.weight)
    values["relations that are scored"] = model.scorer.relation.detach().clone()
    return losses, values


@pytest.mark.parametrize("options", [{}, {"fanout": [2, 1]}, {"batch_norm": True}], ids=["all", "sampled", "norm"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_several_ranks_learn_as_one(world_size: int, options: dict[str, Any]):
    alone = train(0, 1, options)
    for of_rank in run_on_ranks(world_size, train, options):
        for kind, (losses, values) in of_rank.items():
            assert losses == pytest.approx(alone[kind][0], rel=1e-12)
            assert losses[0] != losses[-1]
            torch.testing.assert_close(values, alone[kind][1], rtol=1e-9, atol=1e-11, msg=kind)


def test_a_rank_without_entities_takes_part_in_batch_norm():
    triples = [(0, 0, 1), (1, 1, 2), (2, 0, 3), (3, 0, 0), (2, 1, 1), (0, 1, 2), (3, 1, 2), (0, 0, 3)]
    given = {"batch_norm": True, "layers": 1}, graph_of(triples, 4, 2)  # blocks of 2, 2 and 0 entities
    alone = train(0, 1, *given)
    for of_rank in run_on_ranks(3, train, *given):
        for kind, found in of_rank.items():
            torch.testing.assert_close(found[1], alone[kind][1], rtol=1e-9, atol=1e-11, msg=kind)


def adversarial(rank: int, world_size: int, folder: Path, fanout: list[int] | None) -> dict[str, Tensor]:
    """What a whole KBGAN run ends with: three stages, whose last one keeps an average of the weights."""
    runtime = Runtime(rank, world_size, torch.device("cpu")) if world_size > 1 else one_rank()
    average = EMA(decay=0.9, every=1, start=0.0)
    encoder = partial(ENCODER, fanout=fanout, batch_norm=fanout is None)
    run = KBGANRun(folder / str(world_size), runtime, epochs=1, encoder=encoder, average=average)
    run.fit()
    assert run.sampler.model.encoding is None
    learned = run.model.entity.gather_all(run.model.learned_rows.detach())
    return {**run.parameters(), "learned": learned}


@pytest.mark.parametrize("fanout", [None, [3]])
def test_kbgan_with_a_plain_generator_is_the_same_on_two_ranks(fanout: list[int] | None, tmp_path: Path):
    alone = adversarial(0, 1, tmp_path, fanout)
    assert not torch.equal(alone["learned"], alone["discriminator entity"])
    for found in run_on_ranks(2, adversarial, tmp_path, fanout):
        torch.testing.assert_close(found, alone, rtol=1e-8, atol=1e-10)
