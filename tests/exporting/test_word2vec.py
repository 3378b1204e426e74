"""What format=word2vec writes is read as Gensim reads it."""

from pathlib import Path

import numpy as np
import pytest

from exporting import word2vec
from graph.errors import InputError
from tests.trained import renamed, trained_model


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """As gensim.models.KeyedVectors.load_word2vec_format(path, binary=False)."""
    with path.open("rb") as file:
        count, width = (int(size) for size in file.readline().decode().split())
        words, vectors = [], []
        for line in file:
            word, *numbers = line.decode().rstrip().split(" ")
            assert len(numbers) == width
            words.append(word)
            vectors.append(np.array([float(number) for number in numbers]))
        assert len(words) == count
    return words, np.array(vectors)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["transd", "conve"])
def test_numbers_are_read_back_exactly(name, dtype, tmp_path, out):
    run, trained = trained_model(tmp_path, name, f"dtype={dtype}", "discriminator.reciprocal=true")
    shapes = word2vec.write(trained, out)
    assert {path.name for path in out.iterdir()} == set(shapes)
    table = run.discriminator.entity
    rows = {**trained.relation_parts}
    whole = table.gather_all(table.weight).split(list(trained.entity_parts.values()), dim=1)
    rows |= dict(zip(trained.entity_parts, whole, strict=True))
    for part, expected in rows.items():
        words, vectors = read(out / f"{part}.txt")
        assert words == list(run.graph.entity_names if part in trained.entity_parts else trained.relation_names)
        assert np.array_equal(vectors.astype(dtype), expected.numpy())
        assert shapes[f"{part}.txt"] == list(expected.shape)
    assert {path.stem for path in out.glob("*.npy")} == set(trained.shared)


def test_white_space_in_a_name_is_an_underscore(tmp_path, out):
    odd = ["New York", "a\tb", "two\nlines", "x\u2028y", "no\u00a0break", 'a "quoted", name']
    run, trained = trained_model(tmp_path, "transe")
    word2vec.write(renamed(trained, odd, ["is child of"]), out)
    words, _ = read(out / "entity.txt")
    assert words == [
        *("New_York", "a_b", "two_lines", "x_y", "no_break", 'a_"quoted",_name'),
        *run.graph.entity_names[len(odd) :],
    ]
    assert read(out / "relation.txt")[0] == ["is_child_of", *run.graph.relation_names[1:]]


@pytest.mark.parametrize("same", [("a b", "a\tb"), ("a b", "a_b"), ("a_b", "a b")])
@pytest.mark.parametrize("what", ["entity", "relation"])
def test_names_that_would_become_equal_are_refused(what, same, tmp_path, out):
    _, trained = trained_model(tmp_path, "transe")
    with pytest.raises(InputError) as error:
        word2vec.write(renamed(trained, *((same,) if what == "entity" else ((), same))), out)
    assert str(error.value).startswith(f"format=word2vec: two {what} names must differ in more than white space")
    assert repr(same[0]) in str(error.value)
    assert repr(same[1]) in str(error.value)
    assert list(out.iterdir()) == []
