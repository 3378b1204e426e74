"""One line for an error that the user can fix, as the last line of a command's output."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from embedding.lost_rank import LostRankError, late
from graph.errors import InputError
from launch.last_line import is_rank, may_say, may_say_of_others, rank_number, who_is_lost
from launch.suggestions import explain_unknown_option, explain_wrong_value, no_such_choice

_LOST_CONNECTION = re.compile(r"connection (closed|reset|refused)|broken pipe|timed out|timeout", re.IGNORECASE)
_OUT_OF_TIME = re.compile(r"timed out waiting (\d+)ms", re.IGNORECASE)
"""What gloo says if another rank did not come."""

_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|calculation overflowed|multiplication overflow|bad_alloc")

_LONGEST_MESSAGE = 400


class FailedJobError(Exception):
    """A job of a sweep has failed in a process that one of hydra's launchers started; the argument is its folder."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line for an error that the user can fix; any other error keeps its traceback.

    Of several ranks, only the first to fail prints its line. The others lose the connection to it and end.
    """
    try:
        yield
    except LostRankError as error:
        # launch/agent.py sees how a rank died, but not which rank hangs.
        says = may_say(str(error)) if error.hangs else may_say_of_others(str(error))
        _end(f"{error}" if says else None, error)
    except (InputError, HydraException, OmegaConfBaseException) as error:
        line = _of_config(error)
        _end(line if may_say(line) else None, error)
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
            line = _of_memory(error)
            _end(line if may_say(line) else None, error)
        if not is_rank():
            raise
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, RuntimeError) and _LOST_CONNECTION.search(str(error)):
            lost, waited = who_is_lost(reason), _OUT_OF_TIME.search(reason)
            if waited is not None:
                line = str(late(lost, int(waited[1]) / 1000))
                _end(line if may_say(line) else None, error)
            line = f"{lost} does not answer rank {rank_number()}: {reason}"
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
    # hydra would print a dozen lines, and shorten the tracebacks of this project's errors.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield
    except FailedJobError:
        raise
    except MissingConfigException as error:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        reason = no_such_choice(f"{group}={choice}", group, choice, error.options or [])
    except (HydraException, OmegaConfBaseException) as error:
        errors = [error, *([error.__cause__] if error.__cause__ else [])]
        reason = _cut(": ".join((str(part).splitlines() or [""])[0].rstrip(".") for part in errors))
        reason = explain_unknown_option(reason, command) or explain_wrong_value(reason) or reason
    except Exception as error:
        if _is_of_a_job(error):
            raise
        # hydra raises plain Python exceptions for some arguments, and for a run folder that can't be made.
        reason = f"the options can't be composed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        return
    if may_say(reason):
        print(f"error: {reason}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def _of_memory(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return (
        "there is not enough memory for these options (smaller dimensions, batches or numbers of negatives take "
        f"less): {reason[max(reason.find('you tried'), 0) :][:120]}"
    )


def _of_config(error: Exception) -> str:
    """The message of an error on one line, with the config key if omegaconf knows it."""
    key = getattr(error, "full_key", None)
    if isinstance(error, InputError):
        return str(error)
    message = str(error).splitlines()[0]
    return _cut(message if not key or message.startswith(str(key)) else f"{key}: {message}")


def _cut(message: str) -> str:
    """Cuts a long message: hydra and omegaconf show values of any length."""
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} ..."


def _is_of_a_job(error: Exception) -> bool:
    """True if the error was raised in this project's code, after hydra had composed the config."""
    here = Path(__file__).parent  # hydra has a function of that name too
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "run_job" and Path(frame.filename).parent == here for frame in frames)
