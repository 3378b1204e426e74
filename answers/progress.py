"""A progress bar for work that takes more than a few seconds. Shown on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from trainer.runtime import Runtime

_SECONDS = 3.0
"""No bar for work that is done sooner."""


@contextmanager
def progress_bar(name: str, pairs: int, runtime: Runtime) -> Iterator[Callable[[int], object]]:
    """Gives a function that is told how many more pairs (query, candidate) this rank has scored; rank 0 shows them."""
    # disable=None: tqdm checks whether the output is a terminal.
    disable = None if runtime.is_first else True
    with tqdm(desc=name, total=pairs, unit="pair", unit_scale=True, delay=_SECONDS, disable=disable) as bar:
        yield bar.update
