"""predict.py, similar.py and discover.py ask a run's model, and say in one line what can't be asked."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import yaml

from graph.synthetic import family_graph
from launch import discover, predict, similar

COLUMNS = ["head", "relation", "tail", "rank", "score", "known"]


@pytest.fixture(scope="module")
def facts(finished) -> dict[str, list[tuple[str, str, str]]]:
    """The facts of each split of the run's graph, by name."""
    options = yaml.safe_load((finished / "config.yaml").read_text())["graph"]
    graph = family_graph(**{key: value for key, value in options.items() if not key.startswith("_")})
    names = graph.entity_names, graph.relation_names, graph.entity_names
    return {
        split: [tuple(of[number] for of, number in zip(names, triple, strict=True)) for triple in triples.tolist()]
        for split, triples in (("train", graph.train), ("valid", graph.valid), ("test", graph.test))
    }


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", quoting=csv.QUOTE_NONE))


def test_the_best_tails_are_shown_or_written(command, finished, facts, tmp_path):
    head, relation, _ = facts["test"][0]
    query = [f"run={finished}", f"head={head}", f"relation={relation}", "k=4"]
    outcome = command(predict, *query, "tail=?", "known=show")
    assert outcome.code == 0, outcome.errors
    assert "left out" not in outcome.output
    outcome = command(predict, *query)
    assert outcome.code == 0, outcome.errors
    known = {t for split in facts.values() for h, r, t in split if (h, r) == (head, relation)}
    told = "1 known fact was left out" if len(known) == 1 else f"{len(known)} known facts were left out"
    assert f"\n{told}; known=show shows them\n" in outcome.output
    table, (checkpoint,) = outcome.output.splitlines()[:5], outcome.output.splitlines()[-1:]
    assert table[0].split() == COLUMNS
    assert [line.split()[:2] for line in table[1:]] == [[head, relation]] * 4
    assert checkpoint.startswith(f"checkpoint: {finished}/checkpoints/")
    for ending in ("tsv", "csv"):
        outcome = command(predict, *query, f"out={tmp_path}/best.{ending}")
        assert outcome.output.startswith(f"wrote 4 lines to {tmp_path}/best.{ending}\n{told}; "), outcome.errors
        assert [list(line.values()) for line in read(tmp_path / f"best.{ending}")] == [
            line.split() for line in table[1:]
        ]
    assert command(predict, *query, f"out={tmp_path}/best.jsonl").code == 0
    first = json.loads((tmp_path / "best.jsonl").read_text().splitlines()[0])
    assert (list(first), first["rank"], first["known"]) == (COLUMNS, 1, False)


def test_facts_of_all_splits_are_known(command, finished, facts, tmp_path):
    everything = {triple for split in facts.values() for triple in split}
    for split, triples in facts.items():
        head, relation, tail = triples[0]
        asked = [f"run={finished}", f"relation={relation}", f"tail={tail}", "k=200", f"out={tmp_path}/best.tsv"]
        assert command(predict, *asked, "known=show", "loops=show").code == 0
        known = {line["head"]: line["known"] == "true" for line in read(tmp_path / "best.tsv")}
        assert known[head], split
        assert known == {other: (other, relation, tail) in everything for other in known}
        assert len(known) == 128
        assert command(predict, *asked).code == 0
        assert {line["head"] for line in read(tmp_path / "best.tsv")} == {
            other for other, is_known in known.items() if not is_known and other != tail
        }


def test_only_entities_of_the_slot_if_wanted(command, finished, facts, tmp_path):
    head, relation, _ = facts["train"][0]
    out = tmp_path / "best.tsv"
    asked = [f"run={finished}", f"head={head}", f"relation={relation}", "k=200", f"out={out}"]
    asked += ["known=show", "loops=show"]
    outcome = command(predict, *asked, "among=seen_in_slot")
    seen = {t for _, r, t in facts["train"] if r == relation}
    assert {line["tail"] for line in read(out)} == seen
    assert outcome.output.splitlines()[0] == f"wrote {len(seen)} lines to {out}"
    assert "seen_in_slot" not in outcome.output
    # Without the option, it is named, once.
    said = command(predict, *asked).output.splitlines()
    assert said[:2] == [
        f"wrote 128 lines to {out}, in place of the file that was there",
        f"{128 - len(seen)} of 128 answers never have this place of the relation in train; among=seen_in_slot leaves "
        "them out",
    ]


def test_relations_and_whole_triples_can_be_asked(command, finished, facts):
    head, relation, tail = facts["test"][0]
    outcome = command(predict, f"run={finished}", f"head={head}", f"tail={tail}", "known=show", "k=200")
    lines = [line.split() for line in outcome.output.splitlines()[1:-1]]
    assert [line[3] for line in lines] == [str(rank) for rank in range(1, 21)]
    assert [relation, "true"] in [[line[1], line[5]] for line in lines]
    outcome = command(predict, f"run={finished}", f"head={head}", f"relation={relation}", f"tail={tail}")
    columns, line = (line.split() for line in outcome.output.splitlines()[:2])
    assert columns == ["head", "relation", "tail", "head_rank", "tail_rank", "score", "known"]
    assert line[:3] == [head, relation, tail]
    assert line[6] == "true"
    assert 1 <= float(line[3]) <= 128


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_file_of_queries_gives_the_same_file_on_two_ranks(command, finished, facts, tmp_path):
    triples, lines = facts["test"][:12], []
    for number, triple in enumerate(triples):
        lines.append("\t".join("?" if place == number % 4 else name for place, name in enumerate(triple)))
    (tmp_path / "queries.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    asked = [f"run={finished}", f"queries={tmp_path}/queries.gz", "k=3", "probability=platt", "launch.device=cpu"]
    for ranks in (1, 2):
        outcome = command(predict, *asked, f"launch.ranks={ranks}", f"out={tmp_path}/{ranks}.tsv")
        assert outcome.code == 0, outcome.errors
    found = read(tmp_path / "1.tsv")
    assert (tmp_path / "1.tsv").read_bytes() == (tmp_path / "2.tsv").read_bytes()
    assert list(found[0]) == [*COLUMNS[:4], "head_rank", "tail_rank", *COLUMNS[4:], "probability"]
    assert len(found) == 9 * 3 + 3
    expected = [number for number in range(12) for _ in range(1 if number % 4 == 3 else 3)]
    for line, number in zip(found, expected, strict=True):
        kept = dict(zip(COLUMNS, triples[number], strict=False))
        if number % 4 < 3:
            del kept[COLUMNS[number % 4]]
        assert kept.items() <= line.items()
        assert (line["rank"] == "") == (number % 4 == 3) == (line["tail_rank"] != "")
        assert 0 < float(line["probability"]) < 1


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_come_with_their_reliability(method, command, finished, facts):
    head, relation, _ = facts["test"][0]
    asked = [f"head={head}", f"relation={relation}", f"probability={method}", "negatives=4"]
    outcome = command(predict, f"run={finished}", *asked)
    assert outcome.code == 0, outcome.errors
    lines = outcome.output.splitlines()
    assert lines[0].split() == [*COLUMNS, "probability"]
    assert f"probability: by {method}, fitted on half of " in outcome.output
    briers = next(line for line in lines if line.startswith("On the other half of the valid triples: Brier score "))
    brier, of_sigmoid = (float(briers.split(before)[1].split()[0].rstrip(",")) for before in ("score ", "the score "))
    assert brier < of_sigmoid
    bins = lines[-10:]
    assert bins[0].startswith("0.0 to 0.1")
    assert bins[9].startswith("0.9 to 1.0")


def test_similar_entities_and_relations(command, finished, facts, tmp_path):
    head, relation, _ = facts["test"][0]
    outcome = command(similar, f"run={finished}", f"entity={head}", "k=3", f"out={tmp_path}/near.tsv")
    assert outcome.code == 0, outcome.errors
    assert "compared: whole rows of TransE: 8 numbers of entity\n" in outcome.output
    near = read(tmp_path / "near.tsv")
    assert list(near[0]) == ["entity", "similar", "rank", "cosine"]
    assert 1 >= float(near[0]["cosine"]) >= float(near[1]["cosine"]) >= float(near[2]["cosine"])
    assert head not in {line["similar"] for line in near}
    outcome = command(similar, f"run={finished}", f"relation={relation}", "by=l2", "k=2")
    lines = [line.split() for line in outcome.output.splitlines()]
    assert lines[0] == ["relation", "similar", "rank", "l2"]
    assert 0 < float(lines[1][3]) <= float(lines[2][3])


def test_facts_that_the_graph_lacks(command, finished, facts, tmp_path):
    relations = sorted({relation for _, relation, _ in facts["train"]})[:2]
    asked = [f"relation={','.join(relations)}", "k=15", "per_head=2", f"out={tmp_path}/new.tsv"]
    outcome = command(discover, f"run={finished}", *asked)
    assert outcome.code == 0, outcome.errors
    assert f"of the {2 * 128 * 128:,} pairs of a head and a tail\n" in outcome.output
    new = [(line["head"], line["relation"], line["tail"]) for line in read(tmp_path / "new.tsv")]
    assert len(new) == 15
    assert {relation for _, relation, _ in new} <= set(relations)
    assert not set(new) & {triple for split in facts.values() for triple in split}
    assert max([(head, relation) for head, relation, _ in new].count(triple[:2]) for triple in new) <= 2
    assert command(discover, f"run={finished}", "k=1").code == 0


@pytest.mark.parametrize(
    ("module", "wrong", "message"),
    [
        (predict, [], "at least two of head=, relation= and tail= must be given, or queries=FILE, got none of them"),
        (predict, ["head=a", "queries=b"], "queries: take the queries of a file or head, not both"),
        (
            predict,
            ["head=person_1x", "relation=a"],
            "head: family has no entity 'person_1x'; did you mean 'person_",
        ),
        (predict, ["head=a", "tail=b", "k=0"], "k must be at least 1, got 0"),
        (predict, ["head=a", "tail=b", "known=no"], "known must be leave_out or show, got 'no'"),
        (predict, ["head=a", "tail=b", "loops=no"], "loops must be leave_out or show, got 'no'"),
        (predict, ["head=a", "tail=b", "among=no"], "among must be all or seen_in_slot, got 'no'"),
        (predict, ["head=a", "tail=b", "probability=no"], "probability must be platt or isotonic, got 'no'"),
        (predict, ["head=a", "tail=b", "negatives=0"], "negatives must be at least 1, got 0"),
        (predict, ["head=a", "tail=b", "out=best.txt"], "out must end in .tsv, .csv, .jsonl, got "),
        (predict, ["head=a", "tail=b", "launch.ranks=0"], "launch.ranks must be at least 1 and at most 1024, got 0"),
        (predict, ["queries=nowhere.tsv"], "queries: "),
        (similar, [], "one of entity= and relation= must be given, got none"),
        (similar, ["entity=a", "relation=b"], "one of entity= and relation= must be given, got both"),
        (similar, ["relation=a", "by=l1"], "by must be cosine or l2 or dot, got 'l1'"),
        (similar, ["relation=nothing"], "relation: family has no relation 'nothing'"),
        (discover, ["relation=nothing,sister"], "relation: family has no relation 'nothing'"),
        (discover, ["heads=0"], "heads must be at least 1, got 0"),
        (discover, ["per_head=0"], "per_head must be at least 1, got 0"),
        (discover, ["per_relation=0"], "per_relation must be at least 1, got 0"),
        (discover, ["overlap=1.5"], "overlap must be above 0 and at most 1, got 1.5"),
    ],
)
def test_one_line_says_what_is_wrong(module, wrong, message, command, finished):
    outcome = command(module, f"run={finished}", *wrong)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("module", "own"),
    [
        (predict, ["known: leave_out  ", "launch:", "predict.py run=RUN queries=FILE out=best.tsv"]),
        (similar, ["by: cosine  ", "graph:"]),
        (discover, ["heads: 1000  ", "overlap: 0.5  "]),
    ],
)
def test_help_shows_an_example_and_the_options(module, own, command):
    outcome = command(module, "--help")
    assert outcome.code == 0
    assert [line for line in own if line not in outcome.output] == []
