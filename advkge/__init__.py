"""The Python interface: train a model, load one, and ask it.

The rooms of this project (`graph`, `trainer`, ...) are packages at the top level, and not parts of this one. To make
them `advkge.graph` and so on would need an import hook, which pyright does not follow, or links to folders, which have
every module twice. So this package stands in front of them; `pip install` still installs all of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from graph.errors import InputError

if TYPE_CHECKING:
    from advkge.model import Answer, Model, Similar, load
    from advkge.training import train

__all__ = ["Answer", "InputError", "Model", "Similar", "load", "train"]

# Torch takes seconds to import, so these are imported when they are first used: `advkge --help` uses none of them.
_PLACES = {"train": "advkge.training"} | dict.fromkeys(("Answer", "Model", "Similar", "load"), "advkge.model")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'advkge' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
