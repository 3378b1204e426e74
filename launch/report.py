"""What a person sees at the end: a table, or one line that says what was wrong."""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from graph.errors import InputError
from launch.ranks import is_rank, rank_number

_LOST_CONNECTION = re.compile(r"connection (closed|reset|refused)|broken pipe|timed out|timeout", re.IGNORECASE)

_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|calculation overflowed|multiplication overflow|bad_alloc")

_LONGEST_MESSAGE = 400


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line on rank 0 for what the user can mend; everything else keeps its traceback."""
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException) as error:
        if rank_number() == 0:
            print(f"error: {_of_config(error)}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            reason = " ".join(str(error).split())
            print(
                "error: there is not enough memory for these options (smaller dimensions, batches or numbers of "
                f"negatives take less): {reason[reason.find('you tried') :][:120]}",
                file=sys.stderr,
                flush=True,
            )
            raise SystemExit(1) from error
        if not (is_rank() and _LOST_CONNECTION.search(str(error))):
            raise
        reason = str(error).splitlines()[0]
        print(
            f"error: rank {rank_number()} lost another rank ({reason}); the launcher's report names the one that died",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(1) from error


@contextmanager
def one_line_config_errors() -> Iterator[None]:
    """Ends the process with one line for a config that hydra can't compose, such as `generator=typo`."""
    # hydra would print its own errors on a dozen lines, and cut the traceback of ours.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
    except MissingConfigException as error:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        reason = f"{group}={choice}: there is no such {group}; there are {', '.join(error.options or [])}"
    except (HydraException, OmegaConfBaseException) as error:
        errors = [error, *([error.__cause__] if error.__cause__ else [])]
        reason = _cut(": ".join(str(part).splitlines()[0].rstrip(".") for part in errors))
    except Exception as error:
        if _is_of_a_job(error):
            raise
        # hydra also has exceptions of Python for what was typed, and for a run folder that can't be made.
        reason = f"the options can't be composed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        return
    if rank_number() == 0:
        print(f"error: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def _of_config(error: Exception) -> str:
    """An error's message on one line; of a value that omegaconf can't give, with its key."""
    key = getattr(error, "full_key", None)
    if isinstance(error, InputError):
        return str(error)
    message = str(error).splitlines()[0]
    return _cut(message if not key or message.startswith(str(key)) else f"{key}: {message}")


def _cut(message: str) -> str:
    """hydra and omegaconf show a value however long it is."""
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} ..."


def _is_of_a_job(error: Exception) -> bool:
    """Whether a command's own code had begun when this was raised."""
    here = Path(__file__).parent  # hydra has a function of that name too
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "run_job" and Path(frame.filename).parent == here for frame in frames)


FILTERS = {"valid": "train+valid", "test": "train+valid+test"}
"""The facts that a ranking of each split leaves out: validation must not see test."""


def results_table(result: Mapping[str, Any], filters: Mapping[str, str]) -> str:
    """Ranking metrics by split and side.

    Args:
        result: has the metrics under "valid", "test" or both.
        filters: by which facts each split was filtered.
    """
    columns = ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10", "tie_gap")
    lines = [f"{'filtered, realistic ties':<26}" + "".join(f"{name:>11}" for name in columns) + "  filtered by"]
    for split in (name for name in ("valid", "test") if name in result):
        for side in ("both", "head", "tail"):
            values = result[split][side]
            digits = (1 if name == "mean_rank" else 4 for name in columns)
            numbers = "".join(f"{values[name]:>11.{n}f}" for name, n in zip(columns, digits, strict=True))
            lines.append(f"{split + ' ' + side:<26}{numbers}  {filters[split]}")
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises InputError if that is impossible."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
