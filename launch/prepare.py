r"""Makes train, valid and test files of your triples: `python launch/prepare.py path=RAW out=DIR`.

`out` then holds:

- `train`, `valid` and `test`, as .txt.gz or by the option `suffix`: head, tab, relation, tab, tail; UTF-8, without a
  header, sorted. A split without triples has no file.
- `statistics.json` and `statistics.html`: counts, what was left out, leaks, classes of relations, degrees of entities.

A folder with splits keeps them. Everything else is split anew. Equal triples and options give equal files, byte for
byte, whatever the order of their lines.
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hydra
from jaxtyping import Int
from omegaconf import DictConfig
from torch import Tensor

from graph.errors import InputError
from graph.format.source import SPLITS, ReadOptions
from graph.format.unsplit import recognise_any
from graph.format.wrong_lines import WrongLinesError
from graph.header import header_splits
from graph.knowledge_graph import KnowledgeGraph
from graph.portrait import portrait_of
from graph.preparation import Removed, keep_splits, make_splits
from graph.reading import read_found
from graph.splitting import check_ratio
from graph.writing import refuse_what_text_can_not_hold, write_triples
from launch import schema
from launch.arguments import for_shell, read_arguments
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.groups import settle_choices
from launch.help import help_of
from launch.last_line import is_rank
from launch.options import check_options, check_values
from launch.paths import make_absolute
from launch.plain_words import refuse_plain_words
from launch.this_command import this_command
from reporting.files import refuse_other_files, whole_folder
from reporting.statistics_page import as_page
from reporting.statistics_table import FORMAT, Prepared, as_json, as_text

log = logging.getLogger(__name__)
_SUFFIXES = (".txt", ".tsv", ".txt.gz", ".tsv.gz")
_words: list[str] = []
"""What was typed."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="prepare")
def run_job(config: DictConfig) -> None:
    """Reads, splits and writes; then prints the statistics."""
    with one_line_errors():
        if is_rank():
            raise InputError(f"prepare runs in one process; type: {for_shell(*this_command(), *sys.argv[1:])}")
        make_absolute(config)
        _check(config)
        path, out = Path(config.path), Path(config.out)
        refuse_other_files(out, "statistics.json", FORMAT, "preparation")
        prepared, graph = prepare(config, path)
        with whole_folder(out) as folder:
            _write(config, folder, prepared, graph)
        print(as_text(prepared))
        print(f"written to {out}")


def _check(config: DictConfig) -> None:
    check_values(config)
    for key, example in (("path", "path=triples.tsv"), ("out", "out=prepared")):
        if config[key] is None:
            what = "the file or folder to read" if key == "path" else "the folder to write"
            raise InputError(f"{key} must be {what}, as in {example}, it is not given")
    if "format" not in config.graph:
        raise InputError("graph must be folder here: path=RAW says what is read")
    check_options(config)
    if config.suffix not in _SUFFIXES:
        raise InputError(f"suffix must be one of {', '.join(_SUFFIXES)}, got {config.suffix!r}")
    if config.wrong_lines not in ("error", "skip"):
        raise InputError(f"wrong_lines must be error or skip, got {config.wrong_lines!r}")
    check_ratio(list(config.ratio))
    names = list(config.names)
    if len(set(names)) != 3 or not all(name and "/" not in name and not name.startswith(".") for name in names):
        raise InputError(f"names must be three different names of files, as in [train,valid,test], got {names}")
    if Path(config.out).resolve() == Path(config.path).resolve():
        raise InputError(f"out must be another folder than path, got {config.out} for both")


def prepare(config: DictConfig, path: Path) -> tuple[Prepared, KnowledgeGraph]:
    """Reads the triples at a path and makes or keeps splits; also returns their statistics."""
    wrong = Counter[str]()
    typed = (config.graph[key] for key in ("format", "columns", "header", "literals", "strip"))
    options = ReadOptions(*typed, wrong_lines=wrong if config.wrong_lines == "skip" else None)
    with _timed(f"reading {path}"):
        found = recognise_any(path, options.format)
        try:
            graph, notes = read_found(path.name, found, options)
        except WrongLinesError as error:
            if config.wrong_lines == "skip":  # none is right
                raise
            raise InputError(f"{error}; wrong_lines=skip leaves such lines out") from error
    for note in notes:
        log.log(note.level, "%s", note.text)
    read = {split: len(getattr(graph, split)) for split in found.splits}
    removed: Removed
    if len(found.splits) > 1:
        how = "its splits were kept"
        with _timed(f"leaving out what repeats, of {sum(read.values()):,} triples"):
            graph, removed = keep_splits(graph, covered=config.covered)
    else:
        ratio = list(config.ratio)
        how = f"split into {', '.join(f'{share:g}' for share in ratio)} with seed {config.seed}"
        with _timed(f"splitting {read['train']:,} triples"):
            graph, removed = make_splits(
                graph, ratio=ratio, seed=config.seed, covered=config.covered, together=config.together
            )
        pairs = zip(SPLITS, ratio, strict=True)
        if empty := [split for split, share in pairs if share > 0 and not len(getattr(graph, split))]:
            are = f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
            how += f"; {are}, because {len(graph.train):,} triples are too few"
    refuse_what_text_can_not_hold(graph)
    with _timed("counting leaks, degrees and classes of relations"):
        return Prepared(path.name, how, read, dict(wrong), removed, portrait_of(graph)), graph


def _write(config: DictConfig, folder: Path, prepared: Prepared, graph: KnowledgeGraph) -> None:
    splits = {split: triples for split in SPLITS if len(triples := getattr(graph, split))}
    for split, name in zip(SPLITS, config.names, strict=True):
        if split in splits:
            with _timed(f"writing {name}{config.suffix}"):
                write_triples(folder / f"{name}{config.suffix}", graph, splits[split])
    _tell_of_headers(graph, splits)
    (folder / "statistics.json").write_text(json.dumps(as_json(prepared), indent=1) + "\n")
    (folder / "statistics.html").write_text(as_page(prepared, for_shell(*this_command(), *_words)))


def _tell_of_headers(graph: KnowledgeGraph, splits: Mapping[str, Int[Tensor, "_ 3"]]) -> None:
    """Says which files graph=folder would take for files with a header."""
    firsts = [
        (graph.entity_names[int(head)], graph.relation_names[int(relation)], graph.entity_names[int(tail)])
        for head, relation, tail in (triples[0] for triples in splits.values())
    ]
    for number in header_splits(list(splits.values()), firsts):
        log.warning(
            "the first line of %s (%s) looks like a header: read these files with graph.header=false",
            list(splits)[number],
            ", ".join(firsts[number]),
        )


@contextmanager
def _timed(what: str) -> Iterator[None]:
    """Says what is done, and how long it took if that was more than a few seconds."""
    log.info("%s", what)
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    if seconds > 3:
        log.info("done in %.0f s", seconds)


def main() -> None:
    """The command."""
    with unread_output_dropped():
        schema.register()
        with one_line_errors():
            _words[:] = sys.argv[1:]
            refuse_plain_words(_words, "prepare")
            arguments = read_arguments(settle_choices(sys.argv[1:], with_recipe=False))
            if arguments.wants_help:
                print(help_of("prepare"))
                return
            sys.argv[1:] = arguments.as_list()
        with one_line_config_errors("prepare"):
            run_job()


if __name__ == "__main__":
    main()
