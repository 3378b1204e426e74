"""The report of a sweep: sweep.html, sweep.csv and sweep.svg beside its multirun.yaml, and a table to print."""

from pathlib import Path

from reporting.files import write_text
from reporting.page import Heading
from reporting.sweep_page import as_page
from reporting.sweep_runs import read_sweep
from reporting.sweep_table import draw_sweep, sweep_csv, sweep_text


def report_sweep(folder: Path, command: str) -> str:
    """Writes all files of the report; returns the table.

    Args:
        command: what was typed to get it.
    Raises:
        InputError: the folder holds no run, or a file of a run is damaged.
    """
    runs = read_sweep(folder)
    plot = draw_sweep(runs)
    if plot is not None:
        plot.write(folder)
    write_text(folder / "sweep.csv", sweep_csv(runs))
    write_text(folder / "sweep.html", as_page(Heading.of(command), folder.name, runs, plot))
    return f"{sweep_text(runs)}\npage: {folder / 'sweep.html'}"
