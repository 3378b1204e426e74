"""What is typed: texts keep their characters, what hydra would not read as meant is said, and how to type it."""

import shlex

import pytest

from graph.errors import InputError
from launch.arguments import for_shell, override, read_arguments, value_of

# What folders are called, and what hydra's grammar has another meaning for.
TEXTS = [
    *["a", "a=b,c", " a  b ", "run[1]", "{a:1}", "(a)", "it's", 'a"b', "back\\", "\\'", '\\\\"', "Übung-日本", "a\nb"],
    *["2024", "1e5", "1_000", "true", "null", "", "~", "#;&!<", "sweep(1,2)", "a:b", "a$b", "x" * 5000],
]


@pytest.mark.parametrize("text", TEXTS)
def test_hydra_reads_back_what_was_written(text):
    assert value_of(override("resume", text)) == text


def test_a_text_that_needs_no_quotes_has_none():
    assert override("resume", "/runs/2024-01-01_10-00/a.b") == "resume=/runs/2024-01-01_10-00/a.b"


@pytest.mark.parametrize("text", ["a=b", "Ü", "run[1]", "a,b", "[a]", "{a:1}", "(a)", "it's", "~/x", "choice(a,b)"])
def test_what_hydra_does_not_read_as_a_text_is_shown_as_it_should_be_typed(text):
    with pytest.raises(InputError) as error:
        read_arguments([f"resume={text}"])
    message = str(error.value)
    assert message.startswith(f"resume={text} ")
    typed = shlex.split(message[message.index("for this text type ") :].removeprefix("for this text type "))[0]
    assert value_of(typed.rstrip(",")) == text


def test_a_list_of_folders_is_shown_as_it_should_be_typed():
    with pytest.raises(InputError, match="token recognition error") as error:
        read_arguments(["scorecard.folders=[a=b, Ü]"])
    typed = for_shell('scorecard.folders=["a=b","Ü"]')
    assert str(error.value).endswith(typed)
    read_arguments(shlex.split(typed))


@pytest.mark.parametrize("name", ["2024", "1e5", "1_000", "true"])
def test_a_path_that_looks_like_a_number_keeps_its_text(name):
    assert read_arguments([f"resume={name}", "seed=1_000"]).overrides == [f'resume="{name}"', "seed=1_000"]


@pytest.mark.parametrize("name", [text for text in TEXTS if text != "null"])
def test_a_name_is_taken_as_it_was_typed(name):
    for typed in (f"head={name}", override("head", name)):
        (line,) = read_arguments([typed]).overrides
        assert value_of(line) == name
        assert read_arguments([line]).overrides == [line]


def test_no_name_is_null_and_quotes_are_taken_off():
    typed = ["head=null", "tail='a b'", 'entity="null"', 'relation="a"@en']
    assert read_arguments(typed).overrides == ["head=null", "tail=a b", 'entity="null"', r'relation="\"a\"@en"']


def test_flags_may_stand_anywhere():
    found = read_arguments(["seed=1,2", "--multirun", "generator=kbgan", "--info", "config"])
    assert found.as_list() == ["seed=1,2", "generator=kbgan", "--multirun", "--info", "config"]
    assert found.is_sweep


@pytest.mark.parametrize("line", ["typo", "=1", "seed=" + "[" * 3000, "seed='"])
def test_what_is_no_option_is_one_short_line(line):
    with pytest.raises(InputError) as error:
        read_arguments([line])
    assert str(error.value).startswith(line[:200])
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["hydra.run.dir=", "hydra.run.dir=null", 'hydra.sweep.dir=""'])
def test_a_run_folder_without_a_name_is_refused(line):  # else a run would be written into the current folder
    with pytest.raises(InputError, match=r"hydra\.(run|sweep)\.dir must be a folder, got "):
        read_arguments([line])
