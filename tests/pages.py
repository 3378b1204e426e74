"""Reads the HTML pages that commands write: as text, and as a browser shows them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reporting

SCRIPT = (Path(reporting.__file__).parent / "templates" / "sort.js").read_text()


class Page(HTMLParser):
    """What a browser would fetch and run, whether elements close in order, and the cells of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.scripts: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        """Of images: what they show, in words."""
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")], given
        self.sources += [value for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")]
        self.ids += [given["id"]] if "id" in given else []
        self.labels += [given.get("aria-label") or ""] if given.get("role") == "img" else []
        if given.get("role") == "region":
            self._rows = self.tables.setdefault(given["aria-label"] or "", [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " * (tag in ("div", "dt", "dd", "td", "th", "p", "li"))

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts[-1] += data
            return
        self.text += data
        if {"td", "th"} & {*self.open} and "span" not in self.open:
            self._rows[-1][-1] += data.strip()

    def check(self) -> None:
        """A whole page that fetches nothing, and runs nothing but the script that sorts tables."""
        assert self.open == []
        assert self.sources == []
        assert self.scripts == [SCRIPT]
        assert len(set(self.ids)) == len(self.ids)
        assert all(self.labels)


@dataclass(frozen=True)
class Shown:
    """A page as Chromium shows it in a window of some width."""

    width: int
    scroll_width: int
    """Above `width`: the page has to be moved sideways to be read."""
    column: list[str]
    """The first column of its first table."""
    sorted: list[str]
    """The same after a click on the head of that table's second column."""
    broken: list[str]
    """Words of usual length, in tables and cards, that are broken in the middle."""


_LOOK = """
const seen = {};
const pages = JSON.parse(document.getElementById("pages").textContent);
const frames = pages.map(([name, html, width]) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.scrollingElement;
    const table = page.querySelector("table.sortable");
    const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText);
    const broken = [];
    for (const place of page.querySelectorAll("td, th, .card div, h1, h2, h3")) {
      const texts = page.createTreeWalker(place, 4);
      while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[A-Za-z0-9_]+/g)) {
        const range = page.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map((each) => Math.round(each.top)));
        if (lines.size > 1 && word[0].length <= 18) broken.push(word[0]);
      }
    }
    const shown = { broken, width: root.clientWidth, scroll_width: root.scrollWidth, column: first() };
    table.querySelectorAll("th button")[1].click();
    seen[`${name} ${width}`] = { ...shown, sorted: first() };
    done();
  };
  frame.srcdoc = html;
  document.body.append(frame);
}));
Promise.all(frames).then(() => { document.getElementById("seen").textContent = JSON.stringify(seen); });
"""


def shown_in_chromium(pages: Mapping[str, str], widths: Sequence[int], folder: Path) -> dict[tuple[str, int], Shown]:
    """Opens pages in windows of some widths, all at once; skips the test where there is no Chromium.

    Fails if a page writes anything into the browser's console.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here, so pages are not opened")
    given = json.dumps([[name, html, width] for name, html in pages.items() for width in widths]).replace(
        "<", "\\u003c"
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body><pre id="seen"></pre>'
        f'<script type="application/json" id="pages">{given}</script><script>{_LOOK}</script>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [chromium, *options, wrapper.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert said == []
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found and found[1], done.stderr[-2000:]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return {(name, width): Shown(**seen[f"{name} {width}"]) for name in pages for width in widths}
