"""Recognises the format of a folder by the names of its files."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from graph.errors import InputError
from graph.folder import names_in
from graph.format.dict_folder import DGLKE, ROTATE
from graph.format.libkge import LIBKGE
from graph.format.ntriples import NTRIPLES
from graph.format.openke import OPENKE
from graph.format.parquet import PARQUET
from graph.format.source import SPLITS, Format, Found
from graph.format.text import TEXT

_TRIPLES = tuple(f"{ending}{packed}" for ending in (".txt", ".tsv", ".csv", ".nt") for packed in ("", ".gz"))
FORMATS = (TEXT, NTRIPLES, PARQUET, OPENKE, LIBKGE, DGLKE, ROTATE)
# Other usual names of these splits: a file with such a name is an error, so that it is not overlooked.
_OTHER_NAMES = {
    "valid": ("valid", "val", "validation", "validate", "dev", "eval"),
    "test": ("test", "tst", "testing"),
}


def recognise(folder: Path, wanted: str) -> Found:
    """The files of each split in a folder, and their format.

    Args:
        wanted: the name of the format; "auto": recognise it.

    Raises:
        InputError: there is no train file, several formats fit, a split has two files, or a split without a file has
            one of a similar name or another format.
    """
    names = names_in(folder, "graph.path")
    known = {format.name: format for format in FORMATS}
    if wanted != "auto" and wanted not in known:
        raise InputError(f"graph.format must be one of auto, {', '.join(known)}, is {wanted!r}")
    every = {format.name: _find(folder, names, format) for format in FORMATS}
    found = {
        name: splits
        for name, splits in every.items()
        if "train" in splits and (wanted in ("auto", name)) and (name == wanted or _has_markers(names, known[name]))
    }
    if not found:
        raise _no_train(folder, names, FORMATS if wanted == "auto" else [known[wanted]])
    if wanted == "auto" and DGLKE.name in found:
        del found[TEXT.name]  # both fit the same files; the lists beside them decide
    formats = [known[name] for name in found]
    if len({format.patterns for format in formats}) > 1:
        choices = " or ".join(f"graph.format={name} ({splits['train'][0].name})" for name, splits in found.items())
        raise InputError(f"{folder} has triples in more than one format; say which by {choices}")
    splits = found[formats[0].name]
    _check_complete(folder, names, formats[0], splits, every)
    return Found(folder, formats, splits, _dictionaries(folder, names, formats[0]))


def missing_splits(folder: Path) -> list[str]:
    """The splits for which the folder has no file in any format; all splits if there is no folder."""
    names = names_in(folder, "graph.root") if folder.is_dir() else []
    return [split for split in SPLITS if not any(_find(folder, names, format).get(split) for format in FORMATS)]


def _find(folder: Path, names: Sequence[str], format: Format) -> dict[str, list[Path]]:
    found = {}
    for split in SPLITS:
        patterns = format.patterns(split)
        paths = [folder / name for pattern in patterns for name in names if fnmatch.fnmatchcase(name, pattern)]
        if paths:
            found[split] = paths
    return found


def _has_markers(names: Sequence[str], format: Format) -> bool:
    """False if the format is told by its lists of entities and relations (DGL-KE, RotatE) and none is there."""
    if format not in (DGLKE, ROTATE):
        return True
    return any(name in names for pair in format.dictionaries for name in pair)


def _dictionaries(folder: Path, names: Sequence[str], format: Format) -> list[Path]:
    if not format.dictionaries:
        return []
    for pair in format.dictionaries:
        if all(name in names for name in pair):
            return [folder / name for name in pair]
    begun = [pair for pair in format.dictionaries if any(name in names for name in pair)] or format.dictionaries
    lacking = " or ".join(" and ".join(name for name in pair if name not in names) for pair in begun)
    instead = "; graph.format=text reads the triples without" if format.patterns is TEXT.patterns else ""
    raise InputError(f"{folder}: {format.title} needs {lacking} beside the triples{instead}")


def _check_complete(
    folder: Path,
    names: Sequence[str],
    format: Format,
    splits: dict[str, list[Path]],
    every: dict[str, dict[str, list[Path]]],
) -> None:
    """Raises InputError for a split with two files, or without a file where one of a similar name or format exists."""
    for split in SPLITS:
        paths = splits.get(split, [])
        if len(paths) > 1 and not format.many:
            double = " and ".join(path.name for path in paths)
            raise InputError(f"{folder} has {double} for the same split, expected one {split} file")
        if paths:
            continue
        similar = [path.name for found in every.values() for path in found.get(split, [])]
        similar += [name for name in names if name.split(".")[0].split("-")[0].lower() in _OTHER_NAMES[split]]
        if similar:
            raise InputError(
                f"{folder} has {similar[0]}, which is no {split} file for {format.title}: "
                f"name it like {format.patterns(split)[0]}, or take it out to go without a {split} split"
            )


def _no_train(folder: Path, names: Sequence[str], formats: Sequence[Format]) -> InputError:
    patterns = list(dict.fromkeys(pattern for format in formats for pattern in format.patterns("train")))
    patterns = [pattern for pattern in patterns if "*" not in pattern]
    similar = [name for name in names if name.lower().startswith("train")]
    seen = f"; {', '.join(similar[:3])} is in no format that is read" if similar else ""
    if not similar and any(name.endswith(ending) for name in names for ending in _TRIPLES):
        seen = f"; if it has triples without splits, split them first: advkge prepare path={folder} out=DIR"
    return InputError(f"{folder} has no train file, expected one of {', '.join(patterns)}{seen}")
