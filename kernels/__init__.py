"""Compiled C++ loops over arrays, with plain torch versions for where they cannot be used, and gradients of table rows.

`kernels.gpu` has their counterparts for NVIDIA GPUs, in Triton.

This package does not depend on graphs or models.
"""
