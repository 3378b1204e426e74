import threading

import pytest

from graph.drawn_ahead import DrawnAhead


def test_gives_the_value_of_each_key_and_begins_with_the_next():
    seen: list[int] = []
    drawn = threading.Event()

    def draw(key: int) -> int:
        seen.append(key)
        if key == 4:
            drawn.set()
        return key * 10

    ahead = DrawnAhead(draw)
    assert ahead.take(3, then=4) == 30
    assert drawn.wait(10)  # before anyone asked
    assert ahead.take(4, then=5) == 40
    assert ahead.take(7, then=8) == 70  # another than was expected
    assert ahead.take(8, then=9) == 80
    assert seen.count(4) == seen.count(8) == 1


def test_an_error_is_raised_where_the_value_is_taken():
    ahead = DrawnAhead(lambda key: 1 // key)
    ahead.take(1, then=0)
    with pytest.raises(ZeroDivisionError):
        ahead.take(0, then=1)
