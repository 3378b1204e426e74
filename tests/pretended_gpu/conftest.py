"""Triton's interpreter runs kernels on the CPU, for counts. It must be asked for before the first kernel is defined."""

import os

os.environ["TRITON_INTERPRET"] = "1"
