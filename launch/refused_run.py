"""The folder of a run that was refused before its first step: it is taken away if the run made it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launch.arguments import key_of, read_arguments, value_of
from launch.last_line import is_rank

_OF_NO_STEP = {"train.log", "search.log", "config.yaml", "overrides.yaml"}
"""What a run folder may have before the first step."""
_DEFAULT = Path("outputs")
"""The folder of the run folders that are not typed, as in conf/train.yaml."""
_REFUSED = 1
"""The exit code after an error of one line."""


@contextmanager
def leaving_nothing_if_refused(words: Sequence[str], folders: Sequence[Path]) -> Iterator[None]:
    """Takes the run folder, and the folders above it that were made for it, away if the run is refused.

    Only the process that was started by hand does so, and only for a single run: ranks share a folder.

    Args:
        words: the command line, as hydra gets it.
        folders: gets the run folder as soon as hydra has made it.
    """
    arguments = read_arguments(words)
    if is_rank() or arguments.is_sweep:
        yield
        return
    typed = [value_of(line) for line in arguments.overrides if key_of(line) == "hydra.run.dir"]
    above = Path(typed[-1]) if typed and typed[-1] else _DEFAULT
    existing = next(folder for folder in (above.absolute(), *above.absolute().parents) if folder.is_dir())
    was_there = bool(typed) and existing == above.absolute()
    try:
        yield
    except SystemExit as ended:
        if ended.code == _REFUSED and folders and not was_there:
            _take_away(folders[0].absolute(), existing)
        raise


def _take_away(folder: Path, existing: Path) -> None:
    """Removes a run folder without steps, and the empty folders above it, up to one that was there before."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - _OF_NO_STEP:
        return
    for handler in logging.getLogger().handlers[:]:
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == folder:
            logging.getLogger().removeHandler(handler)
            handler.close()
    for path in folder.iterdir():
        path.unlink()
    for each in (folder, *folder.parents):
        if each == existing or any(each.iterdir()):
            return
        each.rmdir()
