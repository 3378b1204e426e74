"""The rooms that tests and commands import are those of this checkout."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"] if name != "conf"]


@pytest.mark.parametrize("package", PACKAGES)
def test_is_imported_from_this_checkout(package):
    # Packages named "trainer", "graph" or "launch" exist on PyPI too.
    file = importlib.import_module(package).__file__
    assert file == str(ROOT / package.replace(".", "/") / "__init__.py")


def test_every_package_is_listed():
    rooms = (
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
        "advkge",
    )
    found = {init.parent.relative_to(ROOT) for room in rooms for init in (ROOT / room).rglob("__init__.py")}
    assert {path.as_posix().replace("/", ".") for path in found} == set(PACKAGES)
    assert (
        set(PROJECT["tool"]["importlinter"]["root_packages"])
        == {*rooms, "benchmarks"}
        == set(PROJECT["tool"]["pyright"]["include"])
    )


def test_can_not_be_uploaded():
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]
