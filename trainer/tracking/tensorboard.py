"""TensorBoard's event files beside `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graph.errors import InputError
from trainer.stage import PRETRAINING
from trainer.tracking.tracker import Title, Tracker, Wanted


class TensorBoardTracker(Tracker):
    """Scalars by group in `tensorboard/` of the run folder: `tensorboard --logdir RUN` shows them.

    Metrics of a pre-training stage have its name in front, as in `pretrain_generator/valid/mrr`. When a run goes on
    from a checkpoint, points that were written after it are dropped. Tables are shown as text. It takes no exports.

    Args:
        hardest_negatives: show the hardest negatives by name.
        predictions: test triples whose best answers are shown; 0 for no table.
        plots: show the run's curves as images at the end.
    """

    def __init__(self, *, hardest_negatives: bool, predictions: int, plots: bool) -> None:
        self.wanted = Wanted(hardest_negatives=hardest_negatives, predictions=predictions, plots=plots)

    def start(
        self, folder: Path, config: Mapping[str, Any], *, title: Title, run_id: str | None, from_step: int
    ) -> None:
        """Opens the event files; raises InputError if tensorboard is not installed."""
        # Imported here: it takes seconds that runs without it need not pay.
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise InputError(
                "tracker=tensorboard needs tensorboard, which is not installed; type: pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1 if from_step else None)
        self._writer.add_text("title", f"{title.name} ({', '.join(title.tags)})")

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Writes the numbers among the metrics."""
        stage = str(metrics.get("stage", ""))
        prefix = f"{stage}/" if stage.startswith(PRETRAINING) else ""
        for name, value in metrics.items():
            if not isinstance(value, str):
                self._writer.add_scalar(f"{prefix}{name}", value, step)

    def show(
        self, name: str, table: Sequence[Mapping[str, Any]], plots: Mapping[str, Path], *, step: int | None = None
    ) -> None:
        """Writes the table as text, and PNG files as images. SVG files are left out: TensorBoard shows none."""
        if table:
            lines = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
            text = "\n".join("| " + " | ".join(map(_in_a_cell, line)) + " |" for line in lines)
            self._writer.add_text(name, text, step)
        for plot, path in plots.items():
            if path.suffix == ".png":
                self._add_image(f"plots/{plot}", path, step)

    def _add_image(self, name: str, path: Path, step: int | None) -> None:
        # Imported here: it takes a second that runs without plots need not pay.
        from matplotlib.image import imread

        self._writer.add_image(name, imread(path), step, dataformats="HWC")

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Writes the test metrics and closes the files."""
        for side, metrics in (result or {}).get("test", {}).items():
            for metric, value in metrics.items():
                self._writer.add_scalar(f"test/{side}/{metric}", value, (result or {}).get("best_step", 0))
        self._writer.close()


def _in_a_cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
