"""Says `discriminator=NAME` where hydra was given `recipe=NAME` for it (see `launch.groups`), as the user typed it."""

import logging
import re
from collections.abc import Sequence

from launch.arguments import key_of

_RECIPE = re.compile(r"(?<![\w.@/+~-])recipe=(?!none\b)")


def as_typed(lines: Sequence[str]) -> list[str]:
    """The overrides with their recipe as a discriminator, if they choose none and the recipe is one of a model."""
    if any(key_of(line) == "discriminator" for line in lines):
        return list(lines)
    return [_RECIPE.sub("discriminator=", line, count=1) if line.startswith("recipe=") else line for line in lines]


class AsTypedFormatter(logging.Formatter):
    """The format of hydra's own log lines, which list the options of each job of a sweep."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = super().format(record)
        return line if "discriminator=" in line else _RECIPE.sub("discriminator=", line)
