"""What a rank of a test would import, and the kernels it would load: the server of ranks does it once for all of them.

Torch imports its compiler (two seconds) when DistributedDataParallel is first made; hydra's parser is as slow.
"""

import torch._dynamo
import torch.distributed
import torch.nn.parallel
import torch.utils.checkpoint  # noqa: F401

import tests.worlds  # noqa: F401
from kernels.library import load

load()
