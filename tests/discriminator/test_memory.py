"""A step leaves nothing behind: what it made is freed as soon as the next one begins."""

import gc
import weakref
from typing import Any

import pytest
import torch

from discriminator.discriminator import Discriminator
from discriminator.loss.self_adversarial import SelfAdversarial
from discriminator.loss.softmax import Softmax
from discriminator.reward import ScoreReward
from embedding.lookup import Lookup
from generator.uniform import UniformSampler
from tests.worlds import context_of, distmult, families, lazy_adam, model_of, no_opinion, order_of, site_of, transe


@pytest.mark.parametrize("scoring", [distmult, transe])
@pytest.mark.parametrize("loss", [Softmax(), SelfAdversarial(margin=3.0, temperature=1.0)], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("options", [{}, {"entity_dropout": 0.5}, {"reciprocal": True, "relation_dropout": 0.5}])
def test_no_look_up_outlives_its_step(
    scoring: Any, loss: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    made: list[weakref.ref[Lookup]] = []
    begin = Lookup.__init__

    def noted(self: Lookup, *args: Any, **others: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *args, **others)

    monkeypatch.setattr(Lookup, "__init__", noted)
    context = context_of(families(), site_of(families(), dtype=torch.float32))
    model = model_of(context.site, dim=8, scoring=scoring, **options)
    player = Discriminator(model, loss=loss, reward=ScoreReward(), optimizer=lazy_adam)
    sampler = UniformSampler(context, num_negatives=8, mask_known=False, redraw_known=False)
    order = order_of(families(), sampler, chunk_size=16, sides="both")
    gc.collect()
    gc.disable()  # what only the collector frees piles up between its runs, or for ever if the cycle goes through C++
    try:
        for number in range(3):
            batch = order.batch(number)
            player.learn(player.judge(batch, sampler.propose(batch, no_opinion)))
        assert len(made) >= 3
        assert sum(lookup() is not None for lookup in made) == 0
    finally:
        gc.enable()
