"""The project's own objects, made as launch/train.py makes them."""

import gc
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig

from benchmarks.cases import Case
from discriminator.loss.table_loss import TableLoss
from launch import schema
from launch.build import build_run, build_trainer
from launch.built_run import Run
from trainer.runtime import Runtime

_CONF = Path(__file__).parents[1] / "conf"


def compose_case(case: Case, graph: str) -> DictConfig:
    """The config of a case's run on this graph."""
    schema.register()
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        return compose("train", [*case.overrides, f"graph={graph}"])


class Training:
    """The last stage of a run, a few steps at a time."""

    def __init__(self, config: DictConfig, runtime: Runtime, folder: Path) -> None:
        self.run: Run = build_run(config, runtime)
        self.trainer = build_trainer(self.run, folder)
        self.stage = self.trainer.stages[-1]
        self._number = 0
        gc.freeze()  # as Trainer.fit does, whose steps are taken here one by one

    def steps(self, count: int) -> None:
        """The next `count` steps."""
        for _ in range(count):
            self.trainer.train_step(self.stage, self._number)
            self._number += 1

    @property
    def positives(self) -> int:
        """Positives of a step."""
        return self.run.config.trainer.batch_size

    @property
    def sides(self) -> int:
        """Sides of each positive that a step corrupts."""
        return 2 if self.run.config.trainer.sides == "both" else 1

    @property
    def negatives(self) -> int:
        """Entities that a side of each positive is scored with: of KBGAN its generator's pool, of some losses all."""
        if issubclass(get_class(self.run.config.loss._target_), TableLoss):
            return self.run.graph.num_entities
        generator = self.run.config.generator
        return generator.get("pool_size", generator.num_negatives)

    @property
    def row_bytes(self) -> int:
        """Bytes of an entity's row."""
        weight = self.run.discriminator.entity.weight
        return weight.shape[1] * weight.element_size()


def start(config: DictConfig) -> Runtime:
    """This process's place among the ranks."""
    return Runtime.start(device=config.launch.device, timeout_seconds=config.launch.timeout_seconds)


def seconds_to_all(seconds: float, runtime: Runtime) -> float:
    """The ranks' mean, so that all of them decide alike. Collective."""
    return float(runtime.add(torch.tensor(seconds, dtype=torch.float64, device=runtime.device))) / runtime.world_size
