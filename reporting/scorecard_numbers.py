"""A scorecard's plot of quality by the number of negatives."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from reporting.scorecard_cell import Result
from reporting.scorecard_table import Line
from reporting.style import Look, shown_name


class ByNumber:
    """A curve for each sampler: validation MRR by negatives of a positive. Bars are standard deviations over seeds."""

    name = "mrr_by_negatives"
    caption = "Validation MRR by number of negatives"
    x_label = "negatives of each positive"
    y_label = "validation MRR"

    def draw(self, axis: Any, lines: Sequence[Line], results: Sequence[Result], look: Mapping[str, Look]) -> list[str]:
        """Draws all samplers; returns what is said of each."""
        said = []
        for sampler in (line.sampler for line in lines):
            mrr: dict[int, list[float]] = {}
            for result in results:
                number = result.identity["num_negatives"]
                if result.identity["sampler"] == sampler and number is not None and result.error is None:
                    mrr.setdefault(number, []).append(result.figures["valid_mrr"])
            if not mrr:
                continue
            numbers = sorted(mrr)
            means = [mean(mrr[number]) for number in numbers]
            wide = [stdev(mrr[number]) if len(mrr[number]) > 1 else 0.0 for number in numbers]
            axis.errorbar(numbers, means, yerr=wide, label=shown_name(sampler), capsize=2, **look[sampler].line)
            best = max(zip(means, numbers, strict=True))
            said.append(f"{sampler} is best with {best[1]}, at {best[0]:.3g}")
        if said:
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.xaxis.set_minor_formatter("")
        return said
