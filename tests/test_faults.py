"""The campaign of kills draws what it is asked for, and refuses what it does not know."""

import random
import sys

import pytest

from tests import faults
from tests.fault_runs import LARGE, MOMENTS


def test_a_table_that_is_named_is_the_table_of_all_runs_on_each_number_of_ranks():
    source = random.Random(0)
    drawn = [faults.draw(source, (LARGE,)) for _ in range(100)]
    assert {table for table, _, _, _ in drawn} == {LARGE}
    assert {way for _, _, way, _ in drawn} == {"one rank", "two ranks", "three ranks"}
    assert {fault.moment for *_, drawn_faults in drawn for fault in drawn_faults} > set(MOMENTS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tables=all"], "options are runs, seed and table, got tables"),
        (
            ["table=huge"],
            "table must be one of in memory; saved in the background; on disk; large on disk, got 'huge'",
        ),
    ],
)
def test_an_unknown_option_or_table_is_refused(words, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["faults", *words])
    with pytest.raises(SystemExit, match=said):
        faults.main()
