"""What a person sees at the end: a table, or one line that says what was wrong."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from embedding.shared_memory import LostRankError
from graph.errors import InputError
from launch.last_line import is_rank, may_say, may_say_of_others, rank_number, who_is_lost
from launch.suggestions import explain_unknown_option

_LOST_CONNECTION = re.compile(r"connection (closed|reset|refused)|broken pipe|timed out|timeout", re.IGNORECASE)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line for what the user can mend; everything else keeps its traceback.

    Of several ranks the one that says it first says it alone, also what only it can see: the others lose it, and end.
    """
    try:
        yield
    except LostRankError as error:
        # Our launcher sees how a rank died, but not which one it was that hung.
        says = may_say(str(error)) if error.hangs else may_say_of_others(str(error))
        _end(f"{error}" if says else None, error)
    except InputError as error:
        _end(str(error) if may_say(str(error)) else None, error)
    except Exception as error:
        if not is_rank():
            raise
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, RuntimeError) and _LOST_CONNECTION.search(str(error)):
            line = who_is_lost(reason)
            _end(line if may_say_of_others(line) else None, error)
        line = f"rank {rank_number()} ended with {type(error).__name__}: {reason}"
        if not may_say(line):
            _end(None, error)
        traceback.print_exc()
        _end(line, error)


def _end(line: str | None, error: Exception) -> NoReturn:
    if line is not None:
        print(f"error: {line}", file=sys.stderr, flush=True)
    raise SystemExit(1) from error


@contextmanager
def one_line_config_errors(command: str) -> Iterator[None]:
    """Ends the process with one line for a config that hydra can't compose, such as `generator=typo`.

    Args:
        command: the name of its file in conf/.
    """
    # hydra would print its own errors on a dozen lines, and cut the traceback of ours.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
    except MissingConfigException as error:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        reason = f"{group}={choice}: there is no such {group}; there are {', '.join(error.options or [])}"
    except (HydraException, OmegaConfBaseException) as error:
        errors = [error, *([error.__cause__] if error.__cause__ else [])]
        reason = ": ".join(str(part).splitlines()[0].rstrip(".") for part in errors)
        reason = explain_unknown_option(reason, command) or reason
    else:
        return
    if may_say(reason):
        print(f"error: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def results_table(result: dict[str, Any]) -> str:
    """Filtered ranking metrics by split and side; `result` has them under "valid", "test" or both."""
    columns = ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10", "tie_gap")
    lines = [f"{'filtered, realistic ties':<26}" + "".join(f"{name:>11}" for name in columns)]
    for split in (name for name in ("valid", "test") if name in result):
        for side in ("both", "head", "tail"):
            values = result[split][side]
            digits = (1 if name == "mean_rank" else 4 for name in columns)
            numbers = "".join(f"{values[name]:>11.{n}f}" for name, n in zip(columns, digits, strict=True))
            lines.append(f"{split + ' ' + side:<26}{numbers}")
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises InputError if that is impossible."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
