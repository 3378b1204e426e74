"""Results as a person reads them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.targets import judge

_HEAD = ("case", "best/s", "median/s", "scored/s", "of the limit", "x peer", "peak MB", "beside")
_SHARES = ("share of sgemm", "share of gather", "x cdist", "peak of budget")


def line(result: dict[str, Any]) -> str:
    """One result, while others are still to come."""
    pairs = zip(_HEAD, _cells(result), strict=True)
    return "; ".join(f"{head} {cell}" for head, cell in pairs if cell)


def _cells(result: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table: positives (or ranked triples) a second, and what they are beside."""
    figures: dict[str, float] = result["figures"]
    unit = "triples/s" if "triples/s" in figures else "positives/s"
    beside = [f"{value:.2f} {name}" for name, value in figures.items() if name.startswith("x ") and "/" in name]
    beside += [f"{figures[name]:.2f} {name}" for name in ("x one rank", "share of bf16 gemm") if name in figures]
    return (
        result["case"],
        _count(figures.get(unit)),
        _count(figures.get(f"{unit}, median")),
        _count(figures.get("scored negatives/s")),
        "; ".join(f"{figures[name]:.2f} {name}" for name in _SHARES if name in figures),
        _count(figures.get("x peer")),
        _count(result["peak_mb"]),
        "; ".join(beside),
    )


def table(results: Iterable[dict[str, Any]]) -> str:
    """All results, in markdown that is also aligned for a terminal."""
    return _aligned([_HEAD, *(_cells(result) for result in results)])


def targets(results: Iterable[dict[str, Any]]) -> str:
    """What was asked of these cases beside what was measured."""
    rows = [("case", "figure", "asked", "measured", "")]
    for case, target, value in judge(results):
        sign = "<=" if target.most else ">="
        verdict = "reached" if target.reached(value) else "not reached"
        rows.append((case, target.figure, f"{sign} {_number(target.bound)}", _number(value), verdict))
    return _aligned(rows)


def header(described: dict[str, Any]) -> str:
    """What was measured where, a line each."""
    return "\n".join(f"- {name}: {_number(v) if isinstance(v, float) else v}" for name, v in described.items())


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_lines(rows, widths))


def _lines(rows: Sequence[tuple[str, ...]], widths: list[int]) -> Iterator[str]:
    for number, row in enumerate(rows):
        # Names to the left, numbers to the right.
        padded = [cell.rjust(w) if cell[:1].isdigit() else cell.ljust(w) for cell, w in zip(row, widths, strict=True)]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield f"| {' | '.join('-' * width for width in widths)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
