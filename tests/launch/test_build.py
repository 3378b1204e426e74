"""What launch/build.py puts together."""

from pathlib import Path

import pytest

from launch.build import build_run, build_trainer
from tests.configs import composed
from trainer.loop import Trainer
from trainer.runtime import Runtime


def trainer_of(folder: Path, *options: str) -> Trainer:
    """A small KBGAN run."""
    small = ["graph=synthetic", "graph.num_people=100", "generator=kbgan", "generator.dim=4", "discriminator.dim=4"]
    config = composed("train", *small, "launch.device=cpu", *options)
    return build_trainer(build_run(config, Runtime.start(device="cpu", timeout_seconds=1.0)), folder)


@pytest.mark.parametrize(("first", "second"), [("softmax", "infonce"), ("infonce", "softmax")])
def test_a_model_pretrained_with_one_loss_goes_on_with_another(first: str, second: str, tmp_path: Path):
    learned = {"infonce": ["loss.learn_temperature=true"], "softmax": []}
    done = trainer_of(tmp_path / "first", f"loss={first}", *learned[first])
    done.players["discriminator"].model.entity.weight.mul_(0.5)
    saved = done.checkpointer.save("here", done.players, {}, done.saver.manifest)
    given = f"pretrain.discriminator.checkpoint={saved}"
    trainer = trainer_of(tmp_path / "second", f"loss={second}", *learned[second], given)
    assert [stage.name for stage in trainer.stages] == ["pretrain_generator", "adversarial"]
    model = trainer.players["discriminator"].model
    assert model.entity.weight.equal(done.players["discriminator"].model.entity.weight)
    assert ("loss.place" in model.dense_tensors()) == (second == "infonce")
