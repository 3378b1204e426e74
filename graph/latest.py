"""Keeps the last value that a function made."""

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

_Key = ParamSpec("_Key")
_Value = TypeVar("_Value")


class Latest(Generic[_Key, _Value]):
    """Calls a function, or gives its last value again if the arguments are the same.

    Unlike `functools.lru_cache(maxsize=1)`, it lets go of the last value before it makes another, so that memory never
    holds two.

    Example: `latest = Latest(make)`; `latest(1)` and a second `latest(1)` call `make(1)` once.
    """

    def __init__(self, make: Callable[_Key, _Value]) -> None:
        self._make = make
        self._last: tuple[object, _Value] | None = None

    def __call__(self, *args: _Key.args, **kwargs: _Key.kwargs) -> _Value:
        """The function's value."""
        key = args, kwargs
        if self._last is None or self._last[0] != key:
            self._last = None
            self._last = key, self._make(*args, **kwargs)
        return self._last[1]
