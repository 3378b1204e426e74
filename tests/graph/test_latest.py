"""`graph.latest.Latest` makes a value once, and never holds two."""

import weakref

from graph.latest import Latest


class Value:
    def __init__(self, number: int) -> None:
        self.number = number


def test_a_value_is_made_once_until_another_is_asked_for():
    made = []
    latest = Latest(lambda number, *, times=1: made.append((number, times)) or Value(number * times))
    assert latest(2) is latest(2)
    assert latest(2, times=3).number == 6
    assert latest(2).number == 2
    assert made == [(2, 1), (2, 3), (2, 1)]


def test_the_last_value_is_gone_when_another_is_made():
    last: list[weakref.ref[Value]] = []

    def make(number: int) -> Value:
        assert all(each() is None for each in last)
        value = Value(number)
        last.append(weakref.ref(value))
        return value

    latest = Latest(make)
    for number in range(3):
        assert latest(number).number == number
