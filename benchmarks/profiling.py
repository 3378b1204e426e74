"""Where the time of a case goes, by torch's profiler."""

from functools import partial
from pathlib import Path

from torch.profiler import profile

from benchmarks.cases import Case, Kind
from benchmarks.ranking import make_ranking
from benchmarks.settings import Settings
from benchmarks.training import make

_STEPS, _ROWS = 20, 30


def table(case: Case, settings: Settings, folder: Path) -> str:
    """Operators by their own time on the CPU, in 20 steps or one ranking."""
    if case.kind == Kind.RANK:
        work = make_ranking(case, settings).rank
    else:
        work = partial(make(case, settings, folder).steps, _STEPS)
    work()
    with profile() as profiler:
        work()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=_ROWS)
