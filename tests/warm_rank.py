"""What processes of tests would import, and the kernels they would load: the server of ranks does it once for all.

Torch imports its compiler (two seconds) when DistributedDataParallel is first made; hydra's parser is as slow.
"""

import torch._dynamo
import torch.distributed
import torch.nn.parallel
import torch.utils.checkpoint  # noqa: F401
from hydra.core.override_parser.overrides_parser import OverridesParser

import launch.evaluate
import launch.train  # noqa: F401
import tests.worlds  # noqa: F401
from kernels.library import load

load()
OverridesParser.create().parse_overrides(
    ["trainer.epochs=1", "generator@pretrain.generator.sampler=uniform", "term=[n3]"]
)
