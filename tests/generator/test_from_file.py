"""Negatives from a file: each query has those of its own, on both sides; others are uniform."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from generator.from_file import FromFileSampler
from graph.errors import InputError
from launch.given_negatives import tell_of_held_out
from tests.worlds import KBGANRun, batch_of, context_of, families, no_opinion

GRAPH = families()
NUM = GRAPH.num_entities
OPTIONS: dict[str, Any] = {"num_negatives": 4000, "uniform_share": 0.0, "mask_known": False, "redraw_known": False}


def write(folder: Path, triples: Tensor) -> str:
    path = folder / "wrong.tsv"
    path.write_text(
        "".join(
            f"{GRAPH.entity_names[h]}\t{GRAPH.relation_names[r]}\t{GRAPH.entity_names[t]}\n"
            for h, r, t in triples.tolist()
        )
    )
    return str(path)


def lists(folder: Path) -> tuple[str, Tensor]:
    """A file with 5 wrong tails and 3 wrong heads of the first three train facts; two triples are there twice."""
    parts = []
    for head, relation, tail in GRAPH.train[:3].tolist():
        parts += [(head, relation, each) for each in range(5)] + [(each, relation, tail) for each in (40, 50, 60)]
    triples = torch.tensor(parts)
    return write(folder, torch.cat([triples, triples[:2]])), triples


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_draws_are_uniform_over_the_negatives_of_the_query(share: float, tmp_path: Path):
    file, triples = lists(tmp_path)
    rows = set(map(tuple, triples.tolist()))
    batch = batch_of(torch.cat([GRAPH.train[:3], GRAPH.train[:3], GRAPH.train[900:902]]), heads=3)
    sampler = FromFileSampler(context_of(GRAPH), file=file, **(OPTIONS | {"uniform_share": share}))
    negatives = sampler.propose(batch, no_opinion)
    assert (negatives.proposal is None) == (share == 0) == (not sampler.knows_proposal)
    for row, (head, relation, tail) in enumerate(
        zip(*(each.tolist() for each in (batch.head, batch.relation, batch.tail)), strict=True)
    ):
        own = [e for e in range(NUM) if ((e, relation, tail) if row < 3 else (head, relation, e)) in rows]
        assert len(own) >= (3 if row < 3 else 5 if row < 6 else 0)
        probability = torch.full((NUM,), share / NUM if own else 1 / NUM, dtype=torch.float64)
        probability[own] += (1 - share) / max(len(own), 1)
        count = torch.bincount(negatives.entity[row], minlength=NUM)
        some = probability > 0
        assert not count[~some].any()
        assert chisquare(count[some].numpy(), 4000 * probability[some].numpy()).pvalue > 1e-3
        if negatives.proposal is not None:
            assert torch.allclose(negatives.proposal.negative[row].exp(), probability[negatives.entity[row]])
            assert float(negatives.proposal.target[row].exp()) == pytest.approx(float(probability[batch.target[row]]))


def test_says_how_many_queries_have_negatives(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file, triples = lists(tmp_path)
    with caplog.at_level(logging.INFO):
        FromFileSampler(context_of(GRAPH), file=file, **OPTIONS)
    facts = GRAPH.train.tolist()
    queries = {(r, t, "head") for _, r, t in facts} | {(h, r, "tail") for h, r, _ in facts}
    has = {(r, t, "head") for _, r, t in triples.tolist()} | {(h, r, "tail") for h, r, _ in triples.tolist()}
    known = sum(row in set(map(tuple, facts)) for row in map(tuple, torch.cat([triples, triples[:2]]).tolist()))
    assert caplog.messages == [
        f"wrong.tsv: 26 triples; {len(queries & has)} of {len(queries):,} queries of train have negatives there, the "
        f"others get uniform ones; {known} of the triples are train facts"
    ]
    assert known > 0


def test_facts_of_valid_and_test_are_counted_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run = KBGANRun(tmp_path / "run")
    triples = torch.cat([lists(tmp_path)[1], GRAPH.valid[:3], GRAPH.test[:2]])
    sampler = FromFileSampler(context_of(GRAPH), file=write(tmp_path, triples), **OPTIONS)
    stages = [replace(run.trainer.stages[-1], sampler=sampler)]
    with caplog.at_level(logging.WARNING):
        tell_of_held_out(GRAPH, stages)
    assert ["3 are facts of valid and 2 of test" in message for message in caplog.messages] == [True]
    fact = GRAPH.test[:1]
    assert (sampler.propose(batch_of(fact), no_opinion).entity == fact[0, 2]).any()


def test_another_file_can_not_take_up_a_run(tmp_path: Path):
    file, triples = lists(tmp_path)
    first = FromFileSampler(context_of(GRAPH), file=file, **OPTIONS)
    first.load_state(first.state())
    write(tmp_path, triples[:9])
    second = FromFileSampler(context_of(GRAPH), file=file, **OPTIONS)
    with pytest.raises(ValueError, match=r"generator.file has other triples than when the run was started"):
        second.load_state(first.state())


def test_a_file_must_be_given():
    with pytest.raises(InputError, match=r"^generator.file must name a file of negative triples, .* got null$"):
        FromFileSampler(context_of(GRAPH), file=None, **OPTIONS)
