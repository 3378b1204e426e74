"""The code on the pages of docs/ and in README works, or a comment before it says why it is not run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from launch import schema
from launch.groups import settle_choices

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
_VARIABLE = re.compile(r'^([A-Z_]+)="([^"]*)"$', re.MULTILINE)
_PLACEHOLDERS = re.compile(r"\b(RUN|DIR|TIME|RAW|NAME|FILE|MORE|ME|HOST|OUT)\b")


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    mark: str
    """The comment before it."""
    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command line of this project in it, with the values of its shell variables."""
        text = self.text.replace("\\\n", " ")
        for name, value in _VARIABLE.findall(text):
            text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
        lines = [
            shlex.split(line, comments=True) for line in text.splitlines() if "launch/" in line or "advkge" in line
        ]
        return [words for words in lines if words and words[0] in ("python", "advkge", "torchrun")]


BLOCKS = [Block(page, *(part or "" for part in found)) for page in PAGES for found in _BLOCK.findall(page.read_text())]
RUN = [page for page in PAGES if any(block.page == page and block.mark == "run" for block in BLOCKS)]
TRAINED = [
    pytest.param(words, id=" ".join(words)[:60])
    for block in BLOCKS
    if block.language in ("", "bash")
    for words in block.commands
    if "train" in words[:2] or "launch/train.py" in words
]


def test_each_block_is_run_or_says_why_not():
    code = [block for block in BLOCKS if block.language != "mermaid"]
    assert len(code) > 20
    silent = [
        f"{block.page.name}: {block.text[:60]!r}"
        for block in code
        if not re.match(r"run$|not run: \w|run by \w", block.mark)
    ]
    assert silent == []


def test_blocks_that_a_test_runs_are_in_that_test():
    for block in BLOCKS:
        if block.mark.startswith("run by "):
            test = ROOT / block.mark.removeprefix("run by ")
            assert block.page.name in test.read_text(), f"{test} does not read {block.page.name}"


@pytest.mark.parametrize("words", TRAINED)
def test_options_on_pages_are_there(words, monkeypatch):
    start = next(place for place, word in enumerate(words) if word in ("train", "launch/train.py"))
    options = [word for word in words[start + 1 :] if not word.startswith(("-", "resume=", "hydra."))]
    if "--multirun" in words:
        options = [option if "[" in option else option.split(",")[0] for option in options]
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setenv("ADVKGE_STAMP", "now")
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose("train", [_PLACEHOLDERS.sub("1", option) for option in settle_choices(options)])


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page, environment, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    scripts = Path(sys.executable).parent
    environment = {**environment, "PATH": f"{scripts}{os.pathsep}{environment['PATH']}"}
    for block in BLOCKS:
        if block.page != page or block.mark != "run":
            continue
        start = ["bash", "-euc"] if block.language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*start, block.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jupyter's own packages
def test_the_notebook_runs(tmp_path, environment, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    for name in ("PYTHONPATH", "ADVKGE_CACHE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    (tmp_path / "examples").mkdir()
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path / "examples")}}
    done = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("Similar(name=" in output.get("data", {}).get("text/plain", "") for output in outputs)
