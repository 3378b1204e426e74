"""Shows pages of other folders, such as results/README.md, on the site too. mkdocs calls these functions."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_SHOWN = ("results/**/README.md", "results/**/*.svg", "benchmarks/results/README.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of other folders, at the places that they have in the checkout."""
    for pattern in _SHOWN:
        for path in sorted(_ROOT.glob(pattern)):
            place = path.relative_to(_ROOT).as_posix()
            files.append(File(place, str(_ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Makes links that leave docs/ start at the root of the site; other files of the checkout become plain text."""
    if page.file.src_uri.startswith(("results/", "benchmarks/")):
        markdown = re.sub(r"\]\((?:\.\./)+docs/", lambda match: "](" + "../" * page.file.src_uri.count("/"), markdown)
    else:
        markdown = markdown.replace("](../", "](")
    return re.sub(r"\[([^\]]*)\]\(([^)#]+)(#[^)]*)?\)", _kept(page), markdown)


def _kept(page: Page):  # noqa: ANN202 (a function for re.sub)
    folder = Path(page.file.src_uri).parent

    def replaced(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.endswith(".svg"):
            return match[0]
        place = Path("/".join(_normal(folder / target)))
        shown = (_ROOT / "docs" / place).is_file() or any((_ROOT / place).match(pattern) for pattern in _SHOWN)
        return match[0] if shown else match[1]

    return replaced


def _normal(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return parts
