"""The .npy files are enough to compute the model's scores with numpy alone."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from launch.export import write_export
from tests.configs import WITH_VECTORS
from tests.plain_scores import FORMULAS
from tests.trained import renamed, trained_model
from tests.worlds import batch_of


def read_names(path: Path) -> list[str]:
    lines = [line.split("\t") for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    assert [int(line[0]) for line in lines] == list(range(len(lines)))
    return [line[1] for line in lines]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMULAS)
def test_numpy_gives_the_model_s_scores(name, dtype, tmp_path, out):
    norm = ["discriminator.scoring.norm=2"] if name in ("transe", "transd") and dtype == "float64" else []
    run, trained = trained_model(tmp_path, name, f"dtype={dtype}", *norm)
    write_export(trained, out, "npy")

    model = json.loads((out / "model.json").read_text())
    tables = {path.stem: np.load(path, allow_pickle=False) for path in out.glob("*.npy")}
    assert {f"{name}.npy": list(table.shape) for name, table in tables.items()} == model["files"]
    assert {str(table.dtype) for table in tables.values()} == {model["dtype"]} == {dtype}
    head, relation, tail = run.graph.test[:50].T.numpy()
    of_entity = {name: table for name, table in tables.items() if name.startswith("entity")}
    of_relation = {name: table for name, table in tables.items() if name.startswith("relation")}
    model |= {name: table for name, table in tables.items() if name not in {*of_entity, *of_relation}}

    def row(tables, number):
        return {name: table[number].astype(np.float64) for name, table in tables.items()}

    scores = np.array(
        [
            FORMULAS[name](row(of_entity, h), row(of_relation, r), row(of_entity, t), model)
            for h, r, t in zip(head, relation, tail, strict=True)
        ]
    )
    discriminator = run.discriminator
    expected = discriminator.scoring.score(
        discriminator.entity(run.graph.test[:50, 0]),
        discriminator.scorer.relation_rows(run.graph.test[:50, 1]),
        discriminator.entity(run.graph.test[:50, 2]),
    )
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9}
    np.testing.assert_allclose(scores, expected.detach().numpy(), **tolerance)
    assert scores.std() > 0


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_model_says_in_words_how_to_score(name, tmp_path, out):
    run, trained = trained_model(tmp_path, name)
    write_export(trained, out, "npy")
    model = json.loads((out / "model.json").read_text())
    assert model["scoring_function"].lower() == name.replace("_", "")
    assert model["higher_is_more_plausible"] is True
    assert model["score"].startswith(model["scoring_function"])
    assert "Args:" not in model["score"]
    assert re.search(r"\)[:.] ", model["score"])  # the paper, then the formula
    shared = run.discriminator.scoring.state_dict()
    for file in shared:  # what no row holds is named, so that a reader knows what it is
        assert f"{file}.npy" in model["files"]
        assert f"`{file}`" in model["score"]


def test_reciprocal_relations_rank_heads_as_tails(tmp_path, out):
    run, trained = trained_model(tmp_path, "complex", "dtype=float64", "discriminator.reciprocal=true")
    write_export(trained, out, "npy")
    model = json.loads((out / "model.json").read_text())
    names = list(run.graph.relation_names)
    assert read_names(out / "relations.tsv") == [*names, *(f"{name}_reciprocal" for name in names)]
    assert (model["reciprocal"], model["num_relations"]) == (True, 2 * run.graph.num_relations)
    entity, relation = np.load(out / "entity.npy"), np.load(out / "relation.npy")
    assert len(relation) == 2 * len(names)
    # The scores of all heads of a fact, by which the evaluator ranks them.
    fact = run.graph.test[:1]
    batch = batch_of(fact, heads=1)
    (_, r, t), heads = fact[0].tolist(), torch.arange(run.graph.num_entities)[None]
    found = run.discriminator.score_candidates(batch, heads)[0].detach().numpy()
    expected = [
        FORMULAS["complex"]({"entity": entity[t]}, {"relation": relation[r + len(names)]}, {"entity": e}, model)
        for e in entity
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_names_stay_on_their_line(tmp_path, out):
    odd = ["a\tb", "two\nlines", "back\\slash", "carriage\rreturn", "na\u00efve\u2028\u00e9"]
    run, trained = trained_model(tmp_path, "transe")
    write_export(renamed(trained, odd), out, "npy")
    written = read_names(out / "entities.tsv")
    assert written[:5] == ["a\\tb", "two\\nlines", "back\\\\slash", "carriage\\rreturn", "na\u00efve\u2028\u00e9"]
    assert written[5:] == list(run.graph.entity_names[5:])
    assert read_names(out / "relations.tsv") == list(run.graph.relation_names)


def test_files_are_those_of_numpy(tmp_path, out):
    _, trained = trained_model(tmp_path, "transd")
    write_export(trained, out, "npy")
    files = sorted(out.glob("*.npy"))
    assert [file.stem for file in files] == ["entity", "entity_transfer", "relation", "relation_transfer"]
    for file in files:
        saved = io.BytesIO()
        np.save(saved, np.load(file))
        assert saved.getvalue() == file.read_bytes()
