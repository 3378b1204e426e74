r"""Writes a trained model for use without this project: `python launch/export.py run=DIR out=DIR`.

`out` then holds, rows in the order of ids:

- `entity.npy`, `relation.npy` and one `.npy` for each other part of the scoring function's rows, such as TransD's
  `entity_transfer.npy`, for each parameter that all triples share, such as TuckER's `core.npy`, and for running
  statistics of batch norm; all in the dtype of the run.
- `entities.tsv`, `relations.tsv`: id, tab, name; UTF-8, no header. So that each name stays on its line, in names a
  backslash is written `\\`, a tab `\t`, a line feed `\n` and a carriage return `\r`.
- `model.json`: a description of the scoring function, its options, and the shape of each file.

With reciprocal relations, a relation NAME_reciprocal for each relation follows after all the others. Rank the tails of
(h, r) by their scores with r, and the heads of (r, t) by their scores as tails of (t, r_reciprocal).
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import inspect
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import record

from graph.errors import InputError
from launch import schema
from launch.arguments import for_shell, read_arguments
from launch.build import Run
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.help import help_of
from launch.last_line import is_rank
from launch.options import check_values
from launch.paths import make_absolute
from launch.saved_run import load_run
from launch.this_command import this_command
from trainer.runtime import Runtime

_FORMAT = "advkge export 1"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="export")
@record
def run_job(config: DictConfig) -> None:
    """Writes the folder."""
    with one_line_errors():
        if is_rank():
            raise InputError(f"export runs in one process; type: {for_shell(*this_command(), *sys.argv[1:])}")
        check_values(config)
        make_absolute(config)
        if config.out is None:
            raise InputError("out must be the folder to write, as in out=exported, it is not given")
        out = Path(config.out)
        _check_free(out)
        run, checkpoint = load_run(schema.saved_run(config), Runtime.start(device="cpu", timeout_seconds=1.0))
        try:
            _publish(run, checkpoint, out)
        except OSError as error:
            raise InputError(f"out: {out} can't be written: {error.strerror}") from error
        print(f"exported {checkpoint} to {out}")


def _check_free(out: Path) -> None:
    """Refuses a folder with other files than an earlier export, which may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        earlier = json.loads((out / "model.json").read_text())["format"] == _FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    if not earlier:
        raise InputError(f"out must be a new or empty folder or an earlier export, but {out} has other files")


def _publish(run: Run, checkpoint: Path, out: Path) -> None:
    """Writes into a temporary folder beside `out` and renames it, so that `out` is never half written."""
    temporary, replaced = (out.with_name(f"{out.name}.{suffix}.tmp") for suffix in ("new", "old"))
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write_export(run, checkpoint, temporary)
        if out.exists():
            out.rename(replaced)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def write_export(run: Run, checkpoint: Path, folder: Path) -> None:
    """Writes all files of an export into an empty folder."""
    model, scoring = run.discriminator, run.discriminator.scoring
    entity = model.entity.gather_all(model.entity.weight.detach())
    # They are float64 while training, but scores are computed in the type of entity rows.
    shared = scoring.state_dict()  # parameters and running statistics
    relation, *dense = (each.detach().to(model.site.dtype) for each in (model.scorer.relation, *shared.values()))
    parts = [
        *_parts(entity, scoring.entity_parts),
        *_parts(relation, scoring.relation_parts),
        *zip(shared, dense, strict=True),
    ]
    for name, part in parts:
        np.save(folder / f"{name}.npy", part.cpu().contiguous().numpy())
    _write_names(folder / "entities.tsv", run.graph.entity_names)
    relation_names = list(run.graph.relation_names)
    if model.reciprocal:
        relation_names += [f"{name}_reciprocal" for name in relation_names]
    _write_names(folder / "relations.tsv", relation_names)
    description: dict[str, Any] = {
        "format": _FORMAT,
        "scoring_function": type(scoring).__name__,
        "score": _in_words(type(scoring)),
        "higher_is_more_plausible": True,
        "dim": scoring.dim,
        **scoring.export_options,
        "dtype": run.config.dtype,
        "num_entities": run.graph.num_entities,
        "num_relations": len(relation_names),
        "reciprocal": model.reciprocal,
        "files": {f"{name}.npy": list(part.shape) for name, part in parts},
        "graph": {"name": run.graph.name, "fingerprint": run.graph.fingerprint()},
        "checkpoint": checkpoint.name,
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    _sync(folder)


def _parts(rows: Tensor, parts: dict[str, int]) -> Iterator[tuple[str, Tensor]]:
    return zip(parts, rows.split(list(parts.values()), dim=1), strict=True)


def _write_names(path: Path, names: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{number}\t{name.translate(_ESCAPES)}\n" for number, name in enumerate(names))


def _in_words(scoring: type) -> str:
    """The docstrings of the scoring function's file and class: paper, formula, and layout of rows."""
    module = inspect.getdoc(sys.modules[scoring.__module__])
    return " ".join(f"{module} {inspect.getdoc(scoring)}".split())


def _sync(folder: Path) -> None:
    """Flushes all files to disk, before the folder is renamed."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def main() -> None:
    """The command."""
    with unread_output_dropped():
        schema.register()
        with one_line_errors():
            arguments = read_arguments(sys.argv[1:])
            if arguments.wants_help:
                print(help_of("export"))
                return
            sys.argv[1:] = arguments.as_list()
        with one_line_config_errors("export"):
            run_job()


if __name__ == "__main__":
    main()
