"""The line of the project's code that is running: the culprit that errors and counts name."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_HARNESS = Path(__file__).parent
_NAMES: dict[str, str | None] = {}


def running_line() -> str:
    """`file:line` of the innermost frame of the project's code or of a test, but of no file of this harness."""
    return running_lines(1)


def running_lines(most: int) -> str:
    """The same of so many innermost frames: "the line, called at the line, called at the line"."""
    lines: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(lines) < most:
        name = _name(frame.f_code.co_filename)
        if name is not None:
            lines.append(f"{name}:{frame.f_lineno}")
        frame = frame.f_back
    return ", called at ".join(lines) or "outside of the project"


def _name(filename: str) -> str | None:
    if filename not in _NAMES:
        path = Path(filename)
        is_ours = path.is_relative_to(ROOT) and ".venv" not in path.parts
        is_harness = path.parent == _HARNESS and not path.name.startswith("test_")
        _NAMES[filename] = str(path.relative_to(ROOT)) if is_ours and not is_harness else None
    return _NAMES[filename]
