r"""Writes a trained model for use without this project: `python launch/export.py run=DIR out=DIR format=npy`.

docs/exporting.md has the formats. Each writes `model.json`: a description of the scoring function, its options, and
what each file holds. Rows are in the order of ids.

With reciprocal relations, a relation NAME_reciprocal for each relation follows after all the others. Rank the tails of
(h, r) by their scores with r, and the heads of (r, t) by their scores as tails of (t, r_reciprocal).
"""

if __name__ == "__main__":
    from launch.early_signals import end_at_signals

    end_at_signals()

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing.errors import record

from exporting import npy, parquet, projector, pykeen_model, word2vec
from exporting.description import FORMAT, write_description
from exporting.trained_model import TrainedModel
from graph.errors import InputError
from launch.arguments import for_shell
from launch.errors import one_line_errors
from launch.last_line import is_rank
from launch.main import main_of
from launch.options import check_values
from launch.paths import make_absolute
from launch.saved_run import open_run
from launch.this_command import this_command
from launch.trained_options import saved_run
from reporting.files import refuse_other_files, whole_folder
from trainer.runtime import Runtime

FORMATS: dict[str, Callable[[TrainedModel, Path], Mapping[str, Any]]] = {
    "npy": npy.write,
    "word2vec": word2vec.write,
    "parquet": parquet.write,
    "projector": projector.write,
    "pykeen": pykeen_model.write,
}
"""By the name of a format, what writes it into an empty folder and returns what each file holds."""


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
        if config.format not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got {config.format!r}")
        out = Path(config.out)
        refuse_other_files(out, "model.json", FORMAT, "export")
        runtime = Runtime.start(device="cpu", timeout_seconds=1.0)
        trained = TrainedModel(*open_run(saved_run(config), runtime))
        with whole_folder(out) as folder:
            write_export(trained, folder, config.format)
        print(f"exported {trained.checkpoint} to {out}")


def write_export(trained: TrainedModel, folder: Path, form: str) -> None:
    """Writes all files of an export into an empty folder.

    Args:
        form: the name of the format.
    """
    write_description(trained, folder, FORMATS[form](trained, folder))


def main() -> None:
    """The command."""
    main_of("export", run_job)


if __name__ == "__main__":
    main()
