"""Reads and writes the command line by hydra's grammar, so that folders may contain `=`, `,` or spaces."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from graph.errors import InputError

_SHOWN = 200  # most characters of an argument that an error shows
_RUN_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
PATHS = (
    "resume",
    "run",
    "sweep",
    "path",
    "out",
    "candidates",
    "valid_negatives",
    "test_negatives",
    "queries",
    "other_graph",
    "graph.root",
    "graph.path",
    "graph.cache",
    "placement.folder",
    "grow.run",
    "grow.root",
    "grow.path",
    "pretrain.generator.checkpoint",
    "pretrain.discriminator.checkpoint",
)
"""Options that are a file or a folder, beside those that `is_path` finds by their form."""
AUTO = "auto"
"""As `resume`, no path: the run in the run folder goes on if it is there, or else begins."""
_SAMPLER_FILE = re.compile(r"(generator|pretrain\.\w+\.sampler)(\.\w+)*\.file")
NAMES = ("head", "relation", "tail", "entity")
"""Options that are the name of an entity or a relation."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a command."""

    overrides: list[str]
    """Arguments that set an option, such as `seed=1`."""
    flags: list[str]
    """All other arguments, such as `--multirun` and `--cfg job`."""
    is_sweep: bool
    wants_help: bool

    def as_list(self) -> list[str]:
        """The arguments for hydra: all overrides together, then flags, because `--info` would take an override."""
        return [*self.overrides, *self.flags]


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """Splits arguments into overrides and flags, and checks that hydra reads each override as it was meant.

    Raises:
        InputError: an argument that hydra can't read, or reads as a list or a sweep; shows what to type instead.
        SystemExit: an unknown flag.
    """
    known, others = get_args_parser().parse_known_args(list(arguments))
    overrides = [*known.overrides, *(word for word in others if not word.startswith("-"))]
    left = list(overrides)
    flags = []
    for word in arguments:
        if word in left:
            left.remove(word)
        else:
            flags.append(word)
    checked = [_check(line, is_sweep=known.multirun) for line in overrides]
    return Arguments(checked, flags, is_sweep=known.multirun, wants_help=known.help)


def is_path(key: str) -> bool:
    """Whether an option is a file or a folder: one of `PATHS`, or the file of a sampler or of a part of one."""
    return key in PATHS or _SAMPLER_FILE.fullmatch(key) is not None


def override(key: str, value: str) -> str:
    """The override `key=value`, quoted if necessary, which hydra reads as exactly this text."""
    plain = f"{key}={value}"
    try:
        if "${" not in value and _parse(plain).value() == value:
            return plain
    except HydraException:
        pass
    return f"{key}={_quoted(value)}"


def for_shell(*words: str) -> str:
    """The words as a command line for a shell, quoted if necessary."""
    return shlex.join(words)


def key_of(line: str) -> str:
    """The key of an override; `+` and `~` are not part of it."""
    return line.split("=", 1)[0].lstrip("+~").strip()


def value_of(line: str) -> str | None:
    """The value of an override as text; None for null."""
    value = _parse(line).value()
    return None if value is None else str(value)


def expand_home(path: str) -> str:
    """A path with `~` replaced by the home folder; unchanged if there is no such user: opening it reports the error."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        return path


def _check(line: str, *, is_sweep: bool) -> str:
    """Checks an override and returns it; a path becomes text, even `2024`, with `~` replaced by the home folder."""
    shown = _shortened(line)
    if not key_of(line) or ("=" not in line and not line.startswith("~")):
        example = for_shell('out="a b"')
        raise InputError(f"{shown} is no option: type KEY=VALUE, and a value with spaces in quotes, as in {example}")
    if line.partition("=")[0] in NAMES:
        return _named(line)
    try:
        parsed = _parse(line)
    except (HydraException, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise InputError(f"{shown} can't be read ({_shortened(reason)}); {_instead(line)}") from error
    if parsed.is_sweep_override() and not is_sweep:
        several = f"{key_of(line)}=[{line.split('=', 1)[1]}]"
        raise InputError(
            f"{shown} means a run for each value, which needs --multirun; {_instead(line)}, "
            f"for a list {for_shell(several)}"
        )
    key = parsed.key_or_group
    if parsed.is_sweep_override() or parsed.type != OverrideType.CHANGE or not (is_path(key) or key in _RUN_FOLDERS):
        return line
    value = parsed.value()
    if key in _RUN_FOLDERS and value in (None, ""):
        raise InputError(f"{key} must be a folder, got {line.split('=', 1)[1]!r}")
    if value is None or (isinstance(value, str) and not value.startswith("~")):
        return line
    if isinstance(value, list | Mapping):
        raise InputError(f"{shown} is read as a list or a mapping, but {key} is one path; {_instead(line)}")
    text = value if isinstance(value, str) else line.split("=", 1)[1].strip()
    return override(key, expand_home(text))


def _named(line: str) -> str:
    """An override of a name: its text as it was typed, whatever hydra's grammar would make of it.

    In quotes it is the text between them, and null is null. So `null` itself is typed in quotes.
    """
    key, _, text = line.partition("=")
    if text == "null":
        return line
    try:
        value = _parse(line).value() if text[:1] in ("'", '"') else text
    except HydraException:
        value = text
    return override(key, value if isinstance(value, str) else text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _instead(line: str) -> str:
    """Says how to type a value that hydra can't read."""
    if len(line) > _SHOWN:
        return "put the value in quotes"
    start, value = line.split("=", 1) if "=" in line else (line, "")
    if start.endswith("folders") and value.startswith("["):
        parts = [part.strip().strip("'\"") for part in value.strip("[]").split(",")]
        return "type " + for_shell(f"{start}=[{','.join(map(_quoted, parts))}]")
    return "for this text type " + for_shell(f"{start}={_quoted(value)}")


def _quoted(text: str) -> str:
    r"""In double quotes; `${` becomes `\${`, or omegaconf would look for an option of that name."""
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(text, Quote.double).with_quotes()


def _parse(line: str) -> Override:
    return OverridesParser.create().parse_override(line)
