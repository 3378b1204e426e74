"""A run that begins with another run's model on a larger graph: known rows by name, new ones learn, then it goes on."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from graph.knowledge_graph import KnowledgeGraph
from graph.reading import read_folder
from graph.synthetic import family_graph
from launch import evaluate, train

# That of the `finished` run: TINY people, and the shares of conf/graph/synthetic.yaml.
SMALLER: KnowledgeGraph = family_graph(num_people=100, hidden_share=0.05, valid_share=0.05, test_share=0.05, seed=0)
Named = list[tuple[str, str, str]]


def named(triples: Tensor) -> Named:
    entity, relation = SMALLER.entity_names, SMALLER.relation_names
    return [(entity[h], relation[r], entity[t]) for h, r, t in triples.tolist()]


def write(folder: Path, **splits: Named) -> Path:
    folder.mkdir()
    for split, rows in splits.items():
        (folder / f"{split}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Path:
    """The facts of the run, in another order, and twins of six people: each has the facts of the other and one more."""
    facts = [(f"twin_{h}", r, t) for h, r, t in named(SMALLER.train) if h in {f"person_{n:02d}" for n in range(60, 66)}]
    facts += [(f"twin_person_{n}", "twin_of", f"person_{n}") for n in range(60, 66)]
    held_out = facts[::5]
    learned = [fact for fact in facts if fact not in held_out] + facts[-6:]
    known = named(torch.cat([SMALLER.train, SMALLER.valid, SMALLER.test]))[::-1]
    return write(
        tmp_path_factory.mktemp("grown") / "larger", train=[*learned, *known], valid=held_out, test=held_out[1:]
    )


def rows(run: Path, graph: KnowledgeGraph, pointer: str) -> dict[str, dict[str, Tensor]]:
    """By tensor of a checkpoint: the row of each name, of entities or of relations."""
    checkpoint = run / "checkpoints" / json.loads((run / "checkpoints" / f"{pointer}.json").read_text())["checkpoint"]
    found: dict[str, dict[str, Tensor]] = {}
    for file in checkpoint.glob("rows_*.safetensors"):
        tensors = load_file(file)
        for key, value in tensors.items():
            if not key.startswith(("entity", "keyed")):
                names = (graph.entity_names[each] for each in tensors["entity"].tolist())
                found.setdefault(key, {}).update(zip(names, value, strict=True))
    for key, value in dense(run, pointer).items():
        if key.endswith(("dense/relation", "dense/encoder.inverse")):
            found[key] = dict(zip(graph.relation_names, value, strict=True))
    return found


def dense(run: Path, pointer: str) -> dict[str, Tensor]:
    checkpoint = run / "checkpoints" / json.loads((run / "checkpoints" / f"{pointer}.json").read_text())["checkpoint"]
    return load_file(checkpoint / "dense.safetensors")


def metric(run: Path) -> float:
    return json.loads((run / "result.json").read_text())["valid"]["both"]["mrr"]


def options(finished: Path, larger: Path) -> list[str]:
    return [f"grow.run={finished}", "graph=folder", f"graph.path={larger}", "launch.device=cpu", "graph.cache=null"]


@pytest.mark.slow
def test_known_rows_begin_as_they_were_new_facts_are_learned_and_frozen_rows_stay(command, finished, larger):
    grown, base = read_folder(larger, cache=None), rows(finished, SMALLER, "best_adversarial")
    words = options(finished, larger)
    outcome = command(train, *words, "trainer.epochs=0", "hydra.run.dir=start", "hydra/job_logging=stdout")
    assert outcome.code == 0, outcome.errors
    assert "new entities: 6, new relations: 1" in outcome.output
    start = rows(Path("start"), grown, "latest")
    assert {"discriminator/weight", "generator/weight", "discriminator/optimizer/exp_avg"} <= set(base) == set(start)
    for key, of_name in base.items():
        assert all(start[key][name].equal(row) for name, row in of_name.items())
        assert len(start[key]) - len(of_name) == (1 if key.endswith("relation") else 6)
    assert yaml.safe_load(Path("start/config.yaml").read_text())["discriminator"]["dim"] == 8

    words += ["trainer.epochs=10", "optimizer.lr=0.05", "trainer.valid_every=5"]
    outcome = command(train, *words, "hydra.run.dir=free")
    assert outcome.code == 0, outcome.errors
    assert metric(Path("free")) > 2 * metric(Path("start"))
    assert command(evaluate, "run=free", "split=valid").code == 0

    outcome = command(train, *words, "grow.freeze_known=true", "hydra.run.dir=frozen")
    assert outcome.code == 0, outcome.errors
    assert metric(Path("frozen")) > metric(Path("start"))
    check_frozen(base, rows(Path("frozen"), grown, "latest"), start)
    before = rows(Path("frozen"), grown, "latest")
    outcome = command(train, "resume=frozen", "trainer.epochs=12")
    assert outcome.code == 0, outcome.errors
    check_frozen(base, rows(Path("frozen"), grown, "latest"), before)


def check_frozen(base: dict, now: dict, before: dict) -> None:
    """Known rows are those of the base, new ones of the discriminator have moved."""
    for key in ("discriminator/weight", "generator/weight", "discriminator/dense/relation"):
        known = base[key]
        assert all(now[key][name].equal(row) for name, row in known.items())
        new = set(now[key]) - set(known)
        assert len(new) in (1, 6)
        assert key.startswith("generator") or not any(now[key][name].equal(before[key][name]) for name in new)


@pytest.mark.slow
def test_two_ranks_grow_as_one_does(command, warm, finished, larger):
    words = [*options(finished, larger), "trainer.epochs=2", "grow.freeze_known=true", "dtype=float32"]
    results = []
    for ranks in (1, 2):
        outcome = command(train, *words, f"launch.ranks={ranks}", f"hydra.run.dir=ranks_{ranks}")
        assert outcome.code == 0, outcome.errors
        results.append(json.loads(Path(f"ranks_{ranks}/result.json").read_text()))
    assert results[1]["world_size"] == 2
    assert results[1]["test"]["both"] == pytest.approx(results[0]["test"]["both"], rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grow.run=nowhere"], "grow.run must be a run folder, one with a config.yaml, got {}/nowhere"),
        (["resume=RUN"], "grow.run=RUN begins a new run, so leave out resume=RUN, or grow.run"),
        (["pretrain.generator.epochs=2"], "pretrain.generator.epochs has no place beside grow.run, whose models are "),
        (
            ["graph.path={}/same", "grow.freeze_known=true"],
            "grow.freeze_known=true: same has no entity and no relation ",
        ),
        (["graph.path={}/smaller"], "grow.run: smaller lacks entities that RUN has ("),
        (
            ["graph.path={}/other"],
            "grow.run: other lacks relations that RUN has (1, such as 'borders'): a graph may gain",
        ),
        (["discriminator.dim=9"], "'discriminator/weight' has shape [128, 8], this run's has [128, 9]"),
        (["grow.path=elsewhere"], "grow.run: graph.path: the graph of RUN has no such option, got {}/elsewhere"),
    ],
)
def test_one_line_says_what_is_wrong(words, message, command, finished, larger, tmp_path):
    known = named(torch.cat([SMALLER.train, SMALLER.valid, SMALLER.test]))
    lost = {f"person_{n:02d}" for n in range(6)}
    write(tmp_path / "smaller", train=[(h, r, t) for h, r, t in known if not {h, t} & lost])
    write(tmp_path / "same", train=known)
    write(tmp_path / "other", train=[(h, r.replace("borders", "touches"), t) for h, r, t in known])
    said = [each.format(tmp_path).replace("RUN", str(finished)) for each in words]
    typed = {each.partition("=")[0] for each in said}
    others = [each for each in options(finished, larger) if each.partition("=")[0] not in typed]
    outcome = command(train, *others, *said, "hydra.run.dir=run", "trainer.epochs=1")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert message.format(tmp_path).replace("RUN", str(finished)) in outcome.errors


def test_an_encoder_is_taken_over_with_the_rows_that_it_reads(command, tiny_plain, larger):
    grown = read_folder(larger, cache=None)
    words = ["discriminator=distmult", "discriminator.reciprocal=false", "encoder=compgcn", "encoder.batch_norm=true"]
    assert command(train, *tiny_plain, *words, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=base").code == 0
    outcome = command(train, *options(Path("base"), larger), "trainer.epochs=0", "hydra.run.dir=start")
    assert outcome.code == 0, outcome.errors
    base, start = rows(Path("base"), SMALLER, "latest"), rows(Path("start"), grown, "latest")
    assert {"discriminator/weight", "discriminator/dense/encoder.inverse"} <= set(base) == set(start)
    for key, of_name in base.items():
        assert all(start[key][name].equal(row) for name, row in of_name.items())
        assert len(start[key]) > len(of_name)
    others = [key for key in dense(Path("base"), "latest") if "encoder." in key and not key.endswith("inverse")]
    assert any(key.endswith("running_mean") for key in others)
    assert all(dense(Path("start"), "latest")[key].equal(dense(Path("base"), "latest")[key]) for key in others)
    assert command(train, *options(Path("base"), larger), "trainer.epochs=1", "hydra.run.dir=more").code == 0
    for option, message in (
        ("encoder.layers=2", "encoder.layers=2 in this run, but encoder.layers=1 in the run of "),
        ("discriminator.dim=9", "'discriminator/weight' has shape [128, 8], this run's has [128, 9]"),
    ):
        refused = command(train, *options(Path("base"), larger), option, "hydra.run.dir=refused")
        assert (refused.code, refused.errors.count("\n")) == (1, 1), refused.errors
        assert message in refused.errors


def test_options_of_grow_need_a_run(command, tiny):
    outcome = command(train, *tiny, "grow.freeze_known=true", "hydra.run.dir=run")
    assert outcome.errors == "error: grow.freeze_known has no effect without grow.run=RUN, got True\n"


def test_a_graph_whose_files_have_changed_is_refused(command, tiny_plain, tmp_path):
    plain = [option for option in tiny_plain if not option.startswith(("graph.", "trainer.epochs"))]
    known = named(SMALLER.train)
    write(tmp_path / "data", train=known)
    words = ["graph=folder", f"graph.path={tmp_path}/data", "generator=uniform", "trainer.epochs=1"]
    assert command(train, *plain, *words, "hydra.run.dir=base").code == 0
    (tmp_path / "data").rename(tmp_path / "before")
    write(tmp_path / "data", train=[*known, ("new", "borders", "newer")])
    outcome = command(train, "grow.run=base", "hydra.run.dir=run")
    assert "error: grow.run: " in outcome.errors
    assert "its files have changed; say where the right ones are with grow.path=DIR" in outcome.errors
    outcome = command(train, "grow.run=base", f"grow.path={tmp_path}/before", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
