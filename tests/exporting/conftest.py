from pathlib import Path

import pytest


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for an export, beside the checkpoint's."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"
