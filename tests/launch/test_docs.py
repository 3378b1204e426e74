"""What docs/ name is there."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
STEP = (ROOT / "docs" / "how_a_step_works.md").read_text()
SAMPLERS = (ROOT / "docs" / "samplers.md").read_text()
YAMLS = {path.stem: path for path in (ROOT / "conf" / "generator").glob("*.yaml")}
ROWS = re.findall(r"^\| `(\w+)` \|", SAMPLERS, flags=re.MULTILINE)
NAMED = re.findall(r"`((?:[a-z_]+/)+[a-z_]+)\.py` `([\w.]+)`", STEP)


def test_files_of_a_step_are_there():
    files = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", STEP))
    assert len(files) > 15
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_stations_of_a_step_are_there(module, name):
    found = reduce(getattr, name.split("."), importlib.import_module(module.replace("/", ".")))
    assert found.__module__ == module.replace("/", ".")


def test_every_sampler_has_its_row():
    assert sorted(ROWS) == sorted(YAMLS)


def _options(name: str) -> set[str]:
    """The keys of a sampler's yaml and of those that it begins with."""
    config = OmegaConf.load(YAMLS[name])
    keys = {str(key) for key in config}
    for each in config.get("defaults", []):
        if isinstance(each, str) and each in YAMLS:
            keys |= _options(each)
        elif not isinstance(each, str):
            (group,) = each
            keys.add(group.partition("@")[2] or group)
    return keys


@pytest.mark.parametrize("name", ROWS)
def test_options_in_a_sampler_s_row_are_its_own(name):
    (row,) = re.findall(rf"^\| `{name}` \|(.*)$", SAMPLERS, flags=re.MULTILINE)
    named = {word.partition("=")[0] for word in re.findall(r"`([\w=.]+)`", row)}
    assert {each for each in named if each not in _options(name) and not each.startswith("loss")} == set()


def test_options_in_the_text_are_there():
    text = "\n".join(line for line in SAMPLERS.splitlines() if not line.startswith("|"))
    of_group = {"generator": set().union(*(_options(name) for name in YAMLS))}
    of_group["trainer"] = set(OmegaConf.load(ROOT / "conf" / "trainer" / "default.yaml"))
    words = re.findall(r"`([a-z_][\w.@]*)(?:=([\w|.]+))?`", text)
    assert len(words) > 10
    for key, value in words:
        if key.endswith(".jsonl"):
            continue
        group, _, option = key.partition("@")[0].partition(".")
        folder = ROOT / "conf" / group
        if option:
            assert option in of_group[group], key
        elif value and folder.is_dir():
            assert [each for each in value.split("|") if not (folder / f"{each}.yaml").exists()] in ([], ["NAME"]), key
        else:
            assert key in of_group["generator"], key
