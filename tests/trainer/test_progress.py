import io
import sys
from functools import partial

import pytest
from tqdm import tqdm

import trainer.progress_bar
from graph.known import KnownTriples
from tests.worlds import families, model_of, one_rank, site_of
from trainer.evaluate import RankingEvaluator
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


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_how_far_a_long_ranking_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(trainer.progress_bar, "_SECONDS", 0.0)
    monkeypatch.setattr(trainer.progress_bar, "tqdm", partial(tqdm, mininterval=0.0))
    graph = families()
    known = KnownTriples.of(graph.train, graph.num_entities, graph.num_relations)
    evaluator = RankingEvaluator(known, one_rank(), memory_mb=1)
    evaluator.evaluate(model_of(site_of(graph)), graph.test)
    bar = stream.getvalue()
    assert not terminal or ("ranking" in bar and "50%" in bar and "100%" in bar and "pair/s" in bar)
    assert terminal or bar == ""
