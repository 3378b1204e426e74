"""How the user started this command, for messages that say what to type next."""

import sys
from pathlib import Path

_INSTALLED = "advkge"


def this_command() -> list[str]:
    """The words that start this command: `python launch/train.py`, or `advkge train` if it was started so."""
    script = Path(sys.argv[0])
    return [_INSTALLED, script.stem] if script.parent.name == _INSTALLED else ["python", sys.argv[0]]


def other_command(command: str) -> list[str]:
    """The words that start another command of this project, in the way in which the user started this one."""
    script = Path(sys.argv[0])
    own = this_command()
    return [_INSTALLED, command] if own[0] == _INSTALLED else ["python", str(script.with_stem(command))]


def installed_as(command: str) -> str:
    """What stands in `sys.argv[0]` of a command that was started as `advkge COMMAND`."""
    return str(Path(_INSTALLED) / command)
