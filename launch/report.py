"""What a person sees at the end: a table, or one line that says what was wrong."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graph.errors import InputError
from launch.ranks import is_rank, rank_number

_LOST_CONNECTION = re.compile(r"connection (closed|reset|refused)|broken pipe|timed out|timeout", re.IGNORECASE)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line on rank 0 for what the user can mend; everything else keeps its traceback."""
    try:
        yield
    except InputError as error:
        if rank_number() == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error
    except RuntimeError as error:
        if not (is_rank() and _LOST_CONNECTION.search(str(error))):
            raise
        reason = str(error).splitlines()[0]
        print(
            f"error: rank {rank_number()} lost another rank ({reason}); the launcher's report names the one that died",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(1) from error


def results_table(result: dict[str, Any]) -> str:
    """Filtered ranking metrics of valid and test, by side."""
    columns = ("mrr", "mean_rank", "hits@1", "hits@3", "hits@10", "tie_gap")
    lines = [f"{'filtered, realistic ties':<26}" + "".join(f"{name:>11}" for name in columns)]
    for split in ("valid", "test"):
        for side in ("both", "head", "tail"):
            values = result[split][side]
            digits = (1 if name == "mean_rank" else 4 for name in columns)
            numbers = "".join(f"{values[name]:>11.{n}f}" for name, n in zip(columns, digits, strict=True))
            lines.append(f"{split + ' ' + side:<26}{numbers}")
    return "\n".join(lines)
