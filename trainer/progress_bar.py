"""A progress bar for work that takes more than a few seconds. Shown on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from trainer.runtime import Runtime

_SECONDS = 3.0
"""No bar for work that is done sooner."""


@contextmanager
def progress_bar(name: str, total: int, runtime: Runtime, *, unit: str = "pair") -> Iterator[Callable[[int], object]]:
    """Gives a function that is told how much more this rank has done, of `total` units. Rank 0 shows it.

    The bar vanishes when the work is done, so that parts of long work leave no bars behind.
    """
    # disable=None: tqdm checks whether the output is a terminal.
    disable = None if runtime.is_first else True
    with tqdm(desc=name, total=total, unit=unit, unit_scale=True, delay=_SECONDS, leave=False, disable=disable) as bar:
        yield bar.update
