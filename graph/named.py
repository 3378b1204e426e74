"""Loads well-known graphs by name, from the user's folder or, for the small ones, from an installed PyKEEN."""

import dataclasses
import importlib.util
from pathlib import Path

from graph.errors import InputError
from graph.folder import folder_at, names_in
from graph.format.recognise import missing_splits
from graph.knowledge_graph import KnowledgeGraph
from graph.reading import read_folder

# Names of graph= and the usual spelling of the folder.
_FOLDERS = {
    "fb15k237": "FB15k-237",
    "wn18rr": "WN18RR",
    "wn18": "WN18",
    "fb13": "FB13",
    "codexm": "CoDEx-M",
    "umls": "umls",
    "kinship": "kinship",
    "nations": "nations",
}
_PYKEEN_FOLDERS = {"umls": "umls", "kinship": "kinships", "nations": "nations"}


def load_named(name: str, root: str | Path | None, *, cache: str | Path | None) -> KnowledgeGraph:
    """Loads a well-known graph: fb15k237, wn18rr, wn18, fb13, codexm, umls, kinship or nations.

    It is searched for as a folder in `root` with a train, a valid and a test file. The folder's name may differ in case
    and in - and _. umls, kinship and nations are searched for in an installed PyKEEN too.

    Raises:
        InputError: the name is unknown, the graph is not found, or `read_folder` refuses a file. If it is not found,
            the error lists the folders searched, the files missing and the options to set.
    """
    if name not in _FOLDERS:
        raise InputError(f"graph.name must be one of {', '.join(_FOLDERS)}, is {name!r}")
    looked = []
    for place in _places(name, root):
        missing = missing_splits(place)
        if not missing:
            return dataclasses.replace(read_folder(place, cache=cache), name=name)
        looked.append(f"{place} (missing {', '.join(f'{split}.txt[.gz]' for split in missing)})")
    if root is None:
        looked.insert(0, "no graph.root (not set)")
    raise InputError(
        f"graph {name} is not here: looked at {'; '.join(looked)}. Set graph.root=DIR or $ADVKGE_DATA=DIR where DIR "
        f"has {_FOLDERS[name]}/train.txt, valid.txt and test.txt (each may be .gz), one head, relation and tail a line"
    )


def _places(name: str, root: str | Path | None) -> list[Path]:
    """Folders to look in: those of `root` with such a name, or the usual one if none exists; then PyKEEN's."""
    places: list[Path] = []
    if root is not None:
        folder = folder_at(root, "graph.root")
        children = [folder / child for child in _children(folder) if _plain(child) == name]
        places += [child for child in children if child.is_dir()]
        places = places or [folder / _FOLDERS[name]]
    # find_spec finds the package without importing it: that would take seconds.
    pykeen = importlib.util.find_spec("pykeen") if name in _PYKEEN_FOLDERS else None
    for location in (pykeen and pykeen.submodule_search_locations) or []:
        places.append(Path(location) / "datasets" / _PYKEEN_FOLDERS[name])
    return places


def _children(folder: Path) -> list[str]:
    try:
        exists = folder.exists()
    except OSError:
        exists = True  # names_in raises the error
    return names_in(folder, "graph.root") if exists else []


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
