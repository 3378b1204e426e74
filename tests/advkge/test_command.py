import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from advkge import command
from launch.this_command import installed_as, other_command, this_command

ROOT = Path(__file__).parents[2]


def test_lists_every_command_of_launch():
    with_main = {path.stem for path in (ROOT / "launch").glob("*.py") if "\ndef main(" in path.read_text()}
    assert set(command.COMMANDS) == with_main


def test_is_what_is_installed():
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["advkge"]
    module, _, function = script.partition(":")
    assert getattr(importlib.import_module(module), function) is command.main


@pytest.fixture
def typed(monkeypatch, capsys):
    """Types `advkge WORDS...`; returns the exit code, the output and the errors."""
    monkeypatch.setattr(command, "end_at_signals", lambda: None)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/advkge", *words])
        try:
            command.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(words, typed):
    code, said, _ = typed(*words)
    assert code == 0
    for name, does in command.COMMANDS.items():
        assert f"  {name}" in said and does in said


def test_an_unknown_command_is_one_line(typed):
    code, _, errors = typed("trian", "graph=umls")
    assert code == 1
    assert errors == f"error: there is no command 'trian'; there are {', '.join(command.COMMANDS)}\n"


@pytest.mark.parametrize("name", [name for name in command.COMMANDS if name != "train"])
def test_each_command_has_its_own_help(name, typed):
    code, said, errors = typed(name, "--help")
    assert (code, errors) == (0, "")
    about, _, options = said.partition("Options and their defaults")
    assert f"advkge {name} " in about  # an example that can be typed
    assert len(about.splitlines()) <= 10 and len(options.splitlines()) > 3


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 0, "usage: advkge COMMAND"),
        (["trian"], 1, "there is no command 'trian'"),
        (["train", "--help"], 0, "Goes on with a run: advkge train resume=RUN"),
        (["predict", "--help"], 0, "advkge predict run=RUN head=NAME"),
        (["train", "--epochs=3"], 1, "options have no dashes"),
        (["train", "generator=kbgn"], 1, "there is no such generator"),
        (["search", "generator=kbgn,uniform"], 1, "there is no such generator"),
        (["report", "rn=x"], 1, "rn: there is no such option; did you mean run?"),
        (["prepare", "pth=x"], 1, "pth: there is no such option; did you mean path?"),
    ],
)
def test_help_and_typos_do_not_wait_for_torch(words, code, says):
    program = (
        "import sys; sys.argv[0] = 'advkge'; from advkge.command import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, "False"), done.stderr
    assert says in done.stdout + done.stderr


def test_what_is_right_is_not_refused_before_torch(typed, monkeypatch):
    run = []
    monkeypatch.setattr("launch.train.main", lambda: run.append(sys.argv[1:]))
    words = [
        *["graph=umls", "+generator.own=1", "~average", "hydra.run.dir=x", "hydra/launcher=joblib", "resume=auto"],
        *["generator=mixture", "generator@generator.parts.easy=uniform", "generator.parts.easy.num_negatives=4"],
        *["baseline@generator.baseline=per_query", "trainer.epochs=1,2", "--multirun"],
    ]
    assert typed("train", *words) == (0, "", "")
    assert run == [words]


@pytest.mark.parametrize(
    ("script", "expected"),
    [("launch/train.py", ["python", "launch/train.py"]), (installed_as("train"), ["advkge", "train"])],
)
def test_messages_say_what_was_typed(script, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "graph=umls"])
    assert this_command() == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [("launch/search.py", ["python", "launch/train.py"]), (installed_as("search"), ["advkge", "train"])],
)
def test_another_command_is_said_as_this_one_was_typed(script, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "graph=umls"])
    assert other_command("train") == expected
