"""Draws what is needed next in a thread, while the caller uses what was drawn before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class DrawnAhead(Generic[_Key, _Value]):
    """Calls a function of a key, mostly before its value is asked for.

    Example: `ahead = DrawnAhead(draw); ahead.take(3, then=4)` gives `draw(3)` and begins with `draw(4)`.

    Args:
        draw: depends on the key alone.
    """

    def __init__(self, draw: Callable[[_Key], _Value]) -> None:
        self._draw = draw
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="drawn ahead")
        self._next: tuple[_Key, Future[_Value]] | None = None

    def take(self, key: _Key, then: _Key) -> _Value:
        """The value of a key, drawn now unless it was drawn ahead. Begins with that of the key `then`."""
        ahead, self._next = self._next, None
        value = ahead[1].result() if ahead is not None and ahead[0] == key else self._draw(key)
        self._next = then, self._threads.submit(self._draw, then)
        return value
