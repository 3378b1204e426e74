"""What an H100 is taken to do. None of it was measured by this project.

Peaks are of the SXM5 card, without sparsity, as NVIDIA's data sheet states them: fp32 67, fp64 34, TF32 495, bf16 989
TFLOP/s, HBM3 3.35 TB/s. The rest are assumptions; most are options of `python -m benchmarks.gpu_model`.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """Rates a second, times in seconds."""

    flops: dict[torch.dtype, float]
    """Of matrix products and of loops."""
    memory: float
    """Bytes of HBM."""
    cache: float
    """Bytes of the L2 cache. An assumption: microbenchmarks of others give 5 to 7 TB/s."""
    reached: float
    """The share of these that kernels reach. An assumption: good ones reach 0.7 to 0.9."""
    shortest: float
    """The time of a kernel that has nothing to do, on the device. An assumption."""
    launch: float
    """The host's time for a kernel of torch, from Python to the driver. An assumption: 5 to 25 us are reported."""
    triton_launch: float
    """The same of Triton. 8.7 us (vllm-project/vllm#34838, GB200), 11 us (meta-pytorch/tritonbench#1002)."""
    graph_launch: float
    """The host's time to start a CUDA graph of some tens of kernels. An assumption."""
    wait: float
    """How long the device is idle after the host has waited for it, until the next kernel. An assumption."""


_TERA, _MICRO = 1e12, 1e-6
H100 = Device(
    flops={
        torch.float64: 34 * _TERA,
        torch.float32: 67 * _TERA,  # torch's default: no TF32 in products of float32
        torch.bfloat16: 989 * _TERA,
    },
    memory=3.35 * _TERA,
    cache=5.5 * _TERA,
    reached=0.7,
    shortest=2 * _MICRO,
    launch=5 * _MICRO,
    triton_launch=9 * _MICRO,
    graph_launch=10 * _MICRO,
    wait=10 * _MICRO,
)
