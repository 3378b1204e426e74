"""Where results come from: machine, versions and commit."""

import os
import platform
import subprocess
from pathlib import Path

import torch


def describe() -> dict[str, str | int]:
    """The machine, the versions, and the commit."""
    root = Path(__file__).parents[1]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    described: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    fields = [line.partition(":") for line in path.read_text().splitlines()] if path.exists() else []
    values = {name.strip(): value.strip() for name, _, value in fields}
    if "model name" not in values:
        return platform.processor() or platform.machine()
    # Virtual machines may hide the model's name, but they show its numbers.
    numbers = f"family {values.get('cpu family')}, model {values.get('model')}"
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in values.get("flags", "").split()]
    return f"{values['model name']} ({numbers}; {' '.join(wide)})"
