"""Classes whose constructors pass options on show all of them."""

import inspect
from typing import Any

from embedding.encoder.rgcn import RGCN
from graph.passed_on import PassesOptionsOn


class Base(PassesOptionsOn):
    def __init__(self, site: str, *, layers: int, dropout: float = 0.0) -> None:
        self.options = site, layers, dropout


class More(Base):
    def __init__(self, site: str, *, heads: int, **options: Any) -> None:
        super().__init__(site, **options)
        self.heads = heads


class Same(More):
    pass


class Mixed(PassesOptionsOn):
    pass


class MixedSame(Mixed, More):
    pass


class Fixed(Base):
    def __init__(self) -> None:
        super().__init__("here", layers=1)


class Keywords(Base):
    def __init__(self, *, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads


def test_options_of_base_classes_are_shown():
    for cls in (More, Same, MixedSame):
        assert list(inspect.signature(cls).parameters) == ["site", "heads", "layers", "dropout"]
    assert inspect.signature(More).parameters["dropout"].default == 0.0
    assert not inspect.signature(Fixed).parameters
    assert list(inspect.signature(Keywords).parameters) == ["site", "heads", "layers", "dropout"]


def test_an_encoder_shows_the_options_of_all_encoders():
    shown = inspect.signature(RGCN).parameters
    assert list(shown)[:4] == ["site", "decomposition", "parts", "normalisation"]
    assert shown["layers"].annotation is int
    assert "options" not in shown
