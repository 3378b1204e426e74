import io
import sys

import pytest

from trainer.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, shown: bool) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("adversarial", total=4000, done=1000, shown=shown) as progress:
        progress.advance(2000, loss=1.25, reward=-3.5, **{"best valid/mrr": 0.25})
    return stream.getvalue()


def test_a_terminal_sees_rate_time_left_loss_reward_and_mrr(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = shown_on(Terminal(), monkeypatch, shown=True)
    for part in ("adversarial", "25%", "75%", "triple/s", "loss=1.25", "reward=-3.5", "best valid/mrr=0.25"):
        assert part in bar


def test_other_ranks_and_files_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_on(Terminal(), monkeypatch, shown=False) == ""
    assert shown_on(io.StringIO(), monkeypatch, shown=True) == ""
