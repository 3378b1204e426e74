"""The statistics of a prepared graph as one HTML file without scripts or links."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.statistics_table import LEAKS, Prepared, removed_rows

_TEMPLATE = "statistics_page.html.jinja"
_MOST_RELATIONS = 1000


def as_page(prepared: Prepared, command: str) -> str:
    """The HTML page. All names are escaped.

    Args:
        command: what was typed to make the graph.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    portrait = prepared.portrait
    total = sum(portrait.triples.values())
    most = max(count for _, _, count in portrait.degrees.counts)
    return environment.get_template(_TEMPLATE).render(
        prepared=prepared,
        portrait=portrait,
        command=command,
        read=sum(prepared.read.values()),
        shares={split: count / total for split, count in portrait.triples.items()},
        removed=[(what, count) for what, count in removed_rows(prepared) if count],
        leaks=[
            (title, meaning, {split: getattr(each, key) for split, each in portrait.leaks.items()})
            for key, (title, meaning) in LEAKS.items()
        ],
        bars=[
            (f"{low:,}" if low == high else f"{low:,} to {high:,}", count, count / most)
            for low, high, count in portrait.degrees.counts
        ],
        relations=portrait.relation[:_MOST_RELATIONS],
        left=len(portrait.relation[_MOST_RELATIONS:]),
    )
