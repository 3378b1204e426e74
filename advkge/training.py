"""Trains from Python: in a process of its own, as `python launch/train.py` does."""

import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import launch.train
from advkge.model import Model, load
from graph.errors import InputError
from launch.arguments import override

_ERROR = "error: "
"""How the line begins that ends a run."""


def train(
    graph: str | Path = "synthetic",
    discriminator: str = "transe",
    *,
    folder: str | Path | None = None,
    show: bool = True,
    **options: Any,
) -> Model:
    """Trains a model, and loads it.

    The run has a process of its own, or several with `launch__ranks=2`, so it leaves nothing behind in this one.

    Args:
        graph: the name of a graph (a file of conf/graph), or a folder with train, valid and test files.
        discriminator: the model, a file of conf/discriminator. Options come before its recipe.
        folder: the run folder; None for a new one in outputs/, named by the time.
        show: print what the run says, line by line.
        options: any other options of `python launch/train.py`. A dot is written as two underscores:
            `generator="kbgan", trainer__epochs=20`. Or as they are: `**{"optimizer.lr": 0.01}`.
    Raises:
        InputError: the run refused an option or a file; with its message.

    Example:
        model = advkge.train("umls", "rotate", trainer__epochs=20)
    """
    _refuse_commands({"graph": graph, "discriminator": discriminator})
    folder = Path(folder) if folder is not None else Path("outputs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
    folder = folder.absolute()
    given = {key.replace("__", "."): value for key, value in options.items()}
    if (Path(graph).is_dir() or isinstance(graph, Path)) and "graph.path" not in given:
        given = {"graph": "folder", "graph.path": str(Path(graph).absolute()), **given}
    else:
        given = {"graph": str(graph), **given}
    given |= {"discriminator": discriminator, "hydra.run.dir": str(folder)}
    _run([_option(key, value) for key, value in given.items()], show=show)
    return load(folder)


def _refuse_commands(given: Mapping[str, str | Path]) -> None:
    """Raises InputError for `train("graph=umls")`, which is the form of the command line."""
    for value in given.values():
        key, equals, rest = str(value).partition("=")
        if equals and isinstance(value, str) and re.fullmatch(r"\w+([./@]\w+)*", key) and not Path(value).exists():
            word = key.replace(".", "__")
            typed = f"{word}={rest!r}" if word.isidentifier() else f"**{{{key!r}: {rest!r}}}"
            raise InputError(f"{value!r} is an option of the command line; from Python, type advkge.train({typed})")


def _run(arguments: Sequence[str], *, show: bool) -> None:
    command = [sys.executable, launch.train.__file__, *arguments]
    last, errors = "", list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = line.rstrip() or last
                if line.startswith(_ERROR):
                    errors.append(line.rstrip().removeprefix(_ERROR))  # what is raised is not printed too
                elif show:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # it saves a checkpoint
            process.wait()
            raise
    if process.returncode:
        raise InputError("; ".join(errors) or last)


def _option(key: str, value: Any) -> str:
    return override(key, value) if isinstance(value, str) else f"{key}={_text(value)}"


def _text(value: Any) -> str:
    """A value as hydra reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(each) for each in value) + "]"
    return str(value)
