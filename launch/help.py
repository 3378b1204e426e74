"""The text of `--help` for a command with options of its own, taken from its file in conf/."""

from collections.abc import Iterator
from itertools import takewhile

from launch.suggestions import CONF
from launch.this_command import this_command

_OF_HYDRA = ("defaults:", "hydra:")


def help_of(command: str) -> str:
    """The opening comment of conf/COMMAND.yaml, then each option with its default and its comment.

    Examples start as the user started this command: `python launch/predict.py` or `advkge predict`.
    """
    script, started = f"python launch/{command}.py", " ".join(this_command())
    text = (CONF / f"{command}.yaml").read_text()
    lines = (text.replace(script, started) if started.startswith("advkge") else text).splitlines()
    title = list(takewhile(lambda line: line.startswith("#"), lines))
    options = "\n".join(_own(lines[len(title) :])).strip()
    how = "Options and their defaults. Type KEY=VALUE; for one below another put a dot between, as in a.b=VALUE."
    return "\n".join([*(line.removeprefix("# ") for line in title), "", how, "", options])


def _own(lines: list[str]) -> Iterator[str]:
    """The lines outside of hydra's own blocks."""
    own = True
    for line in lines:
        if line and not line.startswith(" "):
            own = not line.startswith(_OF_HYDRA)
        if own:
            yield line
