"""Kernels for NVIDIA GPUs in Triton. Each has the name and the contract of its CPU kernel, one folder up.

Only `kernels.gpu.available` may be imported where Triton is not installed.
"""
