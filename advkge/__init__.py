"""The Python interface: train a model, load one, and ask it.

The rooms of this project (`graph`, `trainer`, ...) are packages at the top level, and not parts of this one. To make
them `advkge.graph` and so on would need an import hook, which pyright does not follow, or links to folders, which have
every module twice. So this package stands in front of them; `pip install` still installs all of them.
"""

from advkge.model import Answer, Model, Similar, load
from advkge.training import train
from graph.errors import InputError

__all__ = ["Answer", "InputError", "Model", "Similar", "load", "train"]
