"""Processes of their own for pieces of work; see `benchmarks` for why."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.settings import Settings

_ROOT = Path(__file__).parents[1]


class WorkFailed(Exception):
    """A process ended without a result; what it printed says why."""


def run_worker(work: str, case: Case, settings: Settings, *, ranks: int = 1) -> dict[str, Any]:
    """What `benchmarks.worker` makes of a piece of work, as so many ranks that share `settings.threads`."""
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, settings.threads // ranks))}
    start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"] if ranks > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "done.json"
        words = [*start, "benchmarks.worker", work, case.name, settings.as_json(), str(file)]
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode or not file.exists():
            raise WorkFailed(f"{work} of {case.name} ended with exit code {done.returncode}\n{done.stderr.rstrip()}")
        return json.loads(file.read_text())
