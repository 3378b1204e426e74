import gzip
import os
from pathlib import Path

import pytest

from graph.errors import InputError
from graph.named import load_named

PUBLISHED = {  # entities, relations, train, valid, test, as in the papers of the graphs
    "fb15k237": (14541, 237, 272115, 17535, 20466),
    "wn18rr": (40943, 11, 86835, 3034, 3134),
    "wn18": (40943, 18, 141442, 5000, 5000),
    "fb13": (75043, 13, 316232, 5908, 23733),
    "codexm": (17050, 51, 185584, 10310, 10311),
    "umls": (135, 46, 5216, 652, 661),
    "kinship": (104, 25, 8544, 1068, 1074),
    "nations": (14, 55, 1592, 199, 201),
}


def make_graph(folder: Path, first: str = "a") -> Path:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(f"{first}\tr\tb\n")
    (folder / "valid.txt").write_text("b\tr\tc\n")
    (folder / "test.txt.gz").write_bytes(gzip.compress(b"c\tr\td\n"))
    return folder


@pytest.fixture
def pykeen(tmp_path, monkeypatch) -> Path:
    """A package named pykeen that has data and breaks when it is imported."""
    package = tmp_path / "site" / "pykeen"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(__import__("sys").modules, "pykeen", raising=False)
    return package


@pytest.mark.parametrize(
    ("name", "spelling"),
    [("fb15k237", "FB15k-237"), ("fb15k237", "fb15k_237"), ("wn18rr", "WN18RR"), ("fb13", "fb13"), ("umls", "UMLS")],
)
def test_a_folder_is_found_however_it_is_spelled(tmp_path, name, spelling):
    make_graph(tmp_path / spelling)
    graph = load_named(name, str(tmp_path), cache=str(tmp_path / "cache"))
    assert graph.name == name
    assert list(graph.entity_names) == ["a", "b", "c", "d"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_wn18_is_not_wn18rr(tmp_path):
    make_graph(tmp_path / "WN18RR")
    with pytest.raises(InputError, match="graph wn18 is not here"):
        load_named("wn18", tmp_path, cache=None)


def test_a_graph_that_is_nowhere_says_what_where_and_how(tmp_path, pykeen):
    with pytest.raises(InputError) as caught:
        load_named("umls", tmp_path, cache=None)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("graph umls is not here")
    assert f"{tmp_path / 'umls'} (missing train.txt[.gz], valid.txt[.gz], test.txt[.gz])" in message
    assert str(pykeen / "datasets" / "umls") in message
    assert "graph.root=DIR" in message and "$ADVKGE_DATA" in message and "umls/train.txt" in message


def test_only_the_files_that_are_missing_are_named(tmp_path):
    (make_graph(tmp_path / "FB15k-237") / "valid.txt").unlink()
    with pytest.raises(InputError) as caught:
        load_named("fb15k237", tmp_path, cache=None)
    assert f"{tmp_path / 'FB15k-237'} (missing valid.txt[.gz])" in str(caught.value)


def test_small_graphs_are_found_in_pykeen_without_importing_it(tmp_path, pykeen):
    make_graph(pykeen / "datasets" / "kinships", first="from_pykeen")
    for root in (tmp_path, None):
        graph = load_named("kinship", root, cache=None)
        assert graph.name == "kinship" and graph.entity_names[0] == "from_pykeen"
    make_graph(tmp_path / "kinship", first="from_root")
    assert load_named("kinship", tmp_path, cache=None).entity_names[0] == "from_root"


def test_no_root_is_said(pykeen):
    with pytest.raises(InputError, match=r"no graph\.root \(not set\)"):
        load_named("wn18rr", None, cache=None)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"^graph\.name must be one of fb15k237, .*nations, is 'fb15k'$"):
        load_named("fb15k", tmp_path, cache=None)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_graph(tmp_path / "nations")
    assert load_named("nations", "~", cache=None).entity_names[0] == "a"


@pytest.mark.skipif("ADVKGE_DATA" not in os.environ, reason="$ADVKGE_DATA does not name a folder with the graphs")
@pytest.mark.parametrize("name", PUBLISHED)
def test_real_graphs_have_their_published_sizes(name):
    graph = load_named(name, os.environ["ADVKGE_DATA"], cache=None)
    sizes = (graph.num_entities, graph.num_relations, len(graph.train), len(graph.valid), len(graph.test))
    assert sizes == PUBLISHED[name]
