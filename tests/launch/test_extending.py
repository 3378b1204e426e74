"""The sampler of docs/extending.md works as it stands there, and pages name what there is."""

import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
PAGES = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
ROOMS = (
    "kernels",
    "graph",
    "embedding",
    "generator",
    "discriminator",
    "trainer",
    "answers",
    "exporting",
    "reporting",
    "launch",
    "conf",
)


@pytest.mark.slow
def test_samplers_are_two_files_each(shell, environment, tiny_plain, tmp_path, monkeypatch):
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", EXTENDING, flags=re.DOTALL)
    names = ["generator/stratified.py", "conf/generator/stratified.yaml"]
    assert [name for name, _ in blocks] == [*names, *(name.replace("stratified", "hardest") for name in names)]
    for name, text in blocks:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)

    monkeypatch.setitem(environment, "PYTHONPATH", str(tmp_path))
    words = [tmp_path / "launch/train.py", *tiny_plain]
    both = ["generator@generator.parts.easy=stratified", "generator@generator.parts.hard=hardest"]
    outcome = shell([*words, "generator=mixture", *both, "hydra.run.dir=run"], folder=tmp_path)
    assert outcome.code == 0, outcome.errors
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] > 0


def test_names_no_file_that_is_not_there():
    quoted = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|yaml))`", PAGES)
    named = {*quoted, *re.findall(r"(?<!tests/)launch/\w+\.py", PAGES)}
    assert len(named) > 20
    theirs = {name for name, _ in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", EXTENDING, flags=re.DOTALL)}
    assert [name for name in named - theirs if not (ROOT / name).exists()] == []


def test_groups_are_folders_of_conf():
    listed = re.search(r"Groups: `([^`]*)`", TRAINING)
    assert listed
    groups = [word.removesuffix("=") for word in listed[1].split()]
    assert len(groups) > 5
    assert [group for group in groups if not (ROOT / "conf" / group).is_dir()] == []
