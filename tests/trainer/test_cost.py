import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from embedding.scoring.transd import TransD
from embedding.table_draws import draw_entities
from embedding.whole_table import log_sum_exp
from graph.errors import InputError
from tests.ranks import run_on_ranks
from tests.worlds import KBGANRun, batch_of, families, model_of, one_rank, site_of, transe
from trainer.cost import Cost
from trainer.loop import Stopped
from trainer.pointer import find_checkpoint
from trainer.runtime import Runtime
from trainer.scored import ScoredCandidates


def watched(folder: Path, runtime: Runtime | None = None, **options: Any) -> KBGANRun:
    run = KBGANRun(folder, runtime=runtime or one_rank(), **options)
    run.trainer.observers = [Cost(run.runtime, [player.model for player in run.trainer.players.values()])]
    return run


def costs_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "cost/candidates" in line]


def test_every_stage_counts_what_it_scores(tmp_path: Path):
    run = watched(tmp_path)
    run.fit()
    positives = 2 * 2 * len(run.graph.train)  # two epochs; an observation before each stage and after each epoch
    assert len(costs_of(tmp_path)) == 3 * 3
    stages = {line["stage"]: line["cost/candidates"] for line in costs_of(tmp_path)}
    # Four negatives of the generator's model, one of the discriminator's, then a pool of six and two of its draws.
    each = [4, 1, 6 + 2]
    assert list(stages.values()) == [positives // 2 * sum(each[: n + 1]) for n in range(3)]
    last = costs_of(tmp_path)[-1]
    assert 0 < last["cost/step_seconds"] < last["cost/seconds"]
    assert last["cost/peak_mb"] > 10


def candidates_on(rank: int, world_size: int, folder: Path) -> int:
    run = watched(folder, Runtime(rank, world_size, torch.device("cpu")), chunk_size=8)
    run.fit()
    return run.trainer.observers[0].state()["scored_candidates"]


def test_ranks_count_as_one(tmp_path: Path):
    one = candidates_on(0, 1, tmp_path / "1")
    assert one > 0
    assert run_on_ranks(2, candidates_on, tmp_path / "2") == [one, one]


def test_a_resumed_run_counts_on(tmp_path: Path):
    unbroken = watched(tmp_path / "unbroken")
    unbroken.fit()
    run = watched(tmp_path / "broken")
    after_step = run.trainer.observers[0].after_step

    def stop(seconds: float) -> None:
        after_step(seconds)
        if run.trainer.cursor.step == 17:
            run.runtime.stop_signal = signal.SIGTERM

    run.trainer.observers[0].after_step = stop  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Stopped):
        run.fit()
    again = watched(tmp_path / "broken")
    checkpoint = find_checkpoint(tmp_path / "broken", "latest", "resume")
    again.trainer.resume(checkpoint, again.trainer.checkpointer.read_manifest(checkpoint))
    again.fit()
    assert (
        costs_of(tmp_path / "broken")[-1]["cost/candidates"] == costs_of(tmp_path / "unbroken")[-1]["cost/candidates"]
    )


def test_a_run_that_did_not_count_cannot_be_resumed_as_if_it_had(tmp_path: Path):
    KBGANRun(tmp_path).fit()
    again = watched(tmp_path)
    checkpoint = find_checkpoint(tmp_path, "latest", "resume")
    with pytest.raises(InputError, match=r"quality: the run that is resumed did not count .* without quality"):
        again.trainer.resume(checkpoint, again.trainer.checkpointer.read_manifest(checkpoint))


@pytest.mark.parametrize("scoring", [transe, partial(TransD, norm=1)], ids=["transe", "transd"])
def test_the_whole_table_counts_once_a_query(scoring: Any):
    graph = families()
    model = model_of(site_of(graph), scoring=scoring)
    scored = ScoredCandidates([model])
    batch = batch_of(graph.train[:6], heads=2)
    draw_entities(model, batch, 2, "some")
    assert scored.count == 6 * graph.num_entities
    log_sum_exp(model, batch).sum().backward()  # the second pass, which makes the gradient, is not another opinion
    assert scored.count == 2 * 6 * graph.num_entities
