"""Training with an encoder is the same on any number of ranks."""

import pytest
import torch
from torch import Tensor

from generator.uniform import UniformSampler
from tests.encoders import KINDS, encoded, small_graph
from tests.ranks import run_on_ranks
from tests.worlds import context_of, order_of, player_of
from trainer.runtime import Runtime

GRAPH = small_graph()


def train(rank: int, world_size: int) -> dict[str, tuple[list[float], dict[str, Tensor]]]:
    """With each encoder, the losses of some steps, and all that they changed."""
    return {kind: train_one(Runtime(rank, world_size, torch.device("cpu")), kind) for kind in KINDS}


def train_one(runtime: Runtime, kind: str) -> tuple[list[float], dict[str, Tensor]]:
    model = encoded(kind, GRAPH, runtime, dropout=0.2)
    player = player_of(model)
    sampler = UniformSampler(context_of(GRAPH, model.site), num_negatives=2, mask_known=False, redraw_known=False)
    order = order_of(GRAPH, sampler, batch_size=6)
    losses = []
    for number in range(4):
        whole = order.batch(number)
        player.begin_step(whole)
        batch = runtime.share(whole)
        verdict = player.judge(batch, sampler.propose(batch, player.score_candidates))
        losses.append(float(runtime.add(verdict.loss.detach().clone()[None])))
        player.learn(verdict)
    model.encode()
    values = {name: value.detach().clone() for name, value in model.dense_tensors().items()}
    values["learned entities"] = model.entity.gather_all(model.learned_rows.detach())
    values["entities"] = model.entity.gather_all(model.entity.weight)
    values["relations that are scored"] = model.scorer.relation.detach().clone()
    return losses, values


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_ranks_learn_as_one(world_size: int):
    alone = train(0, 1)
    for of_rank in run_on_ranks(world_size, train):
        for kind, (losses, values) in of_rank.items():
            assert losses == pytest.approx(alone[kind][0], rel=1e-12)
            assert losses[0] != losses[-1]
            torch.testing.assert_close(values, alone[kind][1], rtol=1e-9, atol=1e-11, msg=kind)
