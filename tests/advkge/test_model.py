"""The Python interface trains, loads, and gives the answers that the rows give."""

from pathlib import Path

import numpy as np
import pytest
import torch

import advkge
from advkge.training import _option

OPTIONS = {
    "graph__num_people": 100,
    "discriminator__reciprocal": False,
    "discriminator__dim": 8,
    "trainer__epochs": 2,
    "launch__device": "cpu",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, warm_module) -> Path:
    """The folder of a DistMult run."""
    folder = tmp_path_factory.mktemp("python") / "run"
    advkge.train("synthetic", "distmult", folder=folder, show=False, **OPTIONS)
    return folder


@pytest.fixture(scope="module")
def warm_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield


@pytest.fixture(scope="module")
def model(run) -> advkge.Model:
    return advkge.load(run)


def scores_of_all(model: advkge.Model, head: str, relation: str) -> torch.Tensor:
    """DistMult's scores of all tails, from the rows."""
    entity, of_relation = model.embeddings(), model.embeddings("relations")
    h, r = list(model.entity_names).index(head), list(model.relation_names).index(relation)
    return (entity[h] * of_relation[r]) @ entity.T


def test_tails_are_the_best_by_the_rows(model):
    head, relation = model.entity_names[3], model.relation_names[1]
    scores = scores_of_all(model, head, relation)
    answers = model.tails(head, relation, k=5, known=True, loops=True)
    assert [answer.name for answer in answers] == [model.entity_names[i] for i in scores.topk(5).indices.tolist()]
    np.testing.assert_allclose([answer.score for answer in answers], scores.topk(5).values, rtol=1e-5)
    without = model.tails(head, relation, k=500)
    left_out = {answer.name for answer in model.tails(head, relation, k=500, known=True) if answer.known} | {head}
    assert left_out & {answer.name for answer in without} == set()
    assert len(without) == len(model.entity_names) - len(left_out)


def test_heads_relations_and_scores_agree(model):
    head, relation, tail = model.entity_names[3], model.relation_names[1], model.entity_names[5]
    expected = float(scores_of_all(model, head, relation)[5])
    everything = {"k": 1000, "known": True}
    found = {answer.name: answer.score for answer in model.heads(relation, tail, loops=True, **everything)}
    assert found[head] == pytest.approx(expected, rel=1e-5)
    by_relation = {answer.name: answer.score for answer in model.relations(head, tail, **everything)}
    assert by_relation[relation] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.score([(head, relation, tail), (tail, relation, head)]), expected, rtol=1e-5)


def test_a_triple_or_lists_of_names_are_scored(model):
    head, relation, tail, other = *model.entity_names[3:4], *model.relation_names[1:2], *model.entity_names[5:7]
    both = model.score([(head, relation, tail), (head, relation, other)])
    one = model.score(head, relation, tail)
    assert isinstance(one, float)
    assert one == pytest.approx(both[0])
    np.testing.assert_allclose(model.score(head, relation, [tail, other]), both)
    np.testing.assert_allclose(model.score([head, head], [relation, relation], [tail, other]), both)
    assert model.score(head, relation, []).shape == (0,)


def test_similar_entities_are_near_by_the_rows(model):
    rows = model.embeddings().double()
    distance = torch.linalg.vector_norm(rows - rows[0], dim=1)
    distance[0] = torch.inf
    found = model.similar(model.entity_names[0], k=3, by="l2")
    assert [near.name for near in found] == [model.entity_names[i] for i in distance.argsort()[:3].tolist()]
    np.testing.assert_allclose([near.nearness for near in found], -distance.sort().values[:3], rtol=1e-5)
    assert len(model.similar(relation=model.relation_names[0], k=2)) == 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model: model.tails("nobody", model.relation_names[0]), "head: .* has no entity 'nobody'"),
        (lambda model: model.heads("nothing", model.entity_names[0]), "relation: .* has no relation 'nothing'"),
        (lambda model: model.tails(model.entity_names[0], model.relation_names[0], k=0), "k must be at least 1, got 0"),
        (lambda model: model.similar(), "similar needs an entity or a relation, got entity=None and relation=None"),
        (
            lambda model: model.similar(3),
            r"entity must be a name, .*, got 3; the name of id i is model.entity_names\[i\]",
        ),
        (lambda model: model.tails("nobody", 3), "head: .* has no entity 'nobody'"),
        (lambda model: model.heads(3, "x"), r"relation must be a name, .*, got 3; .* model.relation_names\[i\]"),
        (lambda model: model.score("a", "b"), "score needs a head, a relation and a tail, .*; without tail"),
        (lambda model: model.score(["a"], "b", ["c", "d"]), "lists of the same length, got 1 of head, 2 of tail"),
        (
            lambda model: model.score(("a", "b", "c")),
            r"score needs triples .*, got \('a',\) among",
        ),
        (lambda model: model.similar("x", by="cos"), "by must be cosine, l2 or dot, got 'cos'"),
        (lambda model: model.embeddings("tails"), "of must be 'entities' or 'relations', got 'tails'"),
    ],
)
def test_what_cant_be_asked_is_said(ask, message, model):
    with pytest.raises(advkge.InputError, match=message):
        ask(model)


def test_a_run_that_refuses_says_why(tmp_path, warm_module):
    with pytest.raises(
        advkge.InputError, match=r"^graph=umsl: there is no such graph; did you mean umls\? There are codexm, "
    ):
        advkge.train("umsl", show=False, folder=tmp_path / "run")


def test_the_error_of_a_run_is_raised_and_not_printed_too(tmp_path, warm_module, capsys):
    with pytest.raises(advkge.InputError, match=r"^discriminator\.dim must be at least 1, got -1$"):
        advkge.train(discriminator__dim=-1, folder=tmp_path / "run")
    assert "must be" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        (["graph=umls"], "'graph=umls' is an option of the command line; from Python, type advkge.train(graph='umls')"),
        (["umls", "trainer.epochs=3"], "type advkge.train(trainer__epochs='3')"),
        (["umls", "term@terms.x=n3"], "type advkge.train(**{'term@terms.x': 'n3'})"),
    ],
)
def test_an_option_of_the_command_line_is_shown_as_python_has_it(typed, instead):
    with pytest.raises(advkge.InputError) as error:
        advkge.train(*typed)
    assert str(error.value).endswith(instead)


def test_options_are_written_as_hydra_reads_them():
    assert _option("seed", None) == "seed=null"
    assert _option("trainer.subsampling", True) == "trainer.subsampling=true"
    assert _option("term", ["n3", "l2"]) == "term=[n3,l2]"
    assert _option("optimizer.lr", 1e-05) == "optimizer.lr=1e-05"
    assert _option("hydra.run.dir", "a=b") == 'hydra.run.dir="a=b"'


def test_a_model_shows_what_it_is(model):
    assert repr(model).startswith("<advkge.Model DistMult of family: 128 entities, 20 relations, ")


def test_the_package_lists_what_it_has():
    assert set(advkge.__all__) <= set(dir(advkge))
    assert all(hasattr(advkge, name) for name in advkge.__all__)
    with pytest.raises(AttributeError, match="module 'advkge' has no attribute 'lod'"):
        advkge.lod  # noqa: B018
