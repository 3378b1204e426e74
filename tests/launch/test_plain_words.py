"""Words that are no KEY=VALUE: the error has the options to type instead."""

import pytest

from graph.errors import InputError
from launch import report, schema, train
from launch.plain_words import refuse_plain_words

schema.register()


@pytest.mark.parametrize(
    ("command", "words", "instead"),
    [
        ("predict", ["--k", "5"], "type k=5"),
        ("predict", ["--k=5", "seed=1"], "type k=5"),
        ("predict", ["-k", "5"], "type k=5"),
        ("predict", ["--head", "a b"], "type 'head=a b'"),
        ("predict", ["--k"], "type k=VALUE"),
        ("predict", ["--run", "runs/x"], "type run=runs/x"),
        ("train", ["--epochs", "10"], "type trainer.epochs=10"),
        ("train", ["--batch-size=64"], "type trainer.batch_size=64"),
        ("train", ["recipe=none", "--dim", "8"], "type discriminator.dim=8 or generator.dim=8"),
        ("train", ["generator=uniform", "--dim", "8"], "type discriminator.dim=8"),
        ("train", ["--generator", "kbgan"], "type generator=kbgan"),
        ("train", ["--experiment", "x"], "type experiment=x"),
        ("train", ["--graph.path", "x"], "type graph=folder graph.path=x"),
        ("train", ["--learning-rate", "0.1"], "did you mean optimizer.lr=0.1?"),
        ("train", ["--zzz", "1"], "they are typed as KEY=VALUE, and there is none like zzz"),
    ],
)
def test_a_flag_names_its_option(command, words, instead, monkeypatch):
    monkeypatch.setattr("sys.argv", [command, *words])
    with pytest.raises(InputError) as error:
        refuse_plain_words(words, command)
    flag = next(word for word in words if word.startswith("-"))
    assert str(error.value) == f"{flag}: options have no dashes; {instead}"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Has raw.csv, a folder of triples, a run and a sweep."""
    monkeypatch.chdir(tmp_path)
    for file in ("raw.csv", "triples/train.txt", "runs/x/config.yaml", "runs/s/multirun.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()


@pytest.mark.parametrize(
    ("command", "words", "instead"),
    [
        ("report", ["runs/x"], "run=runs/x"),
        ("report", ["runs/s"], "sweep=runs/s"),
        ("predict", ["runs/gone", "head=a"], "run=runs/gone"),
        ("compare", ["runs/x", "runs/y"], "'runs=[runs/x,runs/y]'"),
        ("prepare", ["raw.csv", "out=prepared"], "path=raw.csv"),
        ("train", ["triples"], "graph=folder graph.path=triples"),
        ("train", ["runs/x"], "resume=runs/x"),
        ("train", ["umls", "seed=1"], "graph=umls"),
        ("train", ["complex"], "discriminator=complex"),
        ("search", ["kbgan"], "generator=kbgan"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_a_word_alone_names_its_option(command, words, instead):
    with pytest.raises(InputError) as error:
        refuse_plain_words(words, command)
    plain = " ".join(word for word in words if "=" not in word)
    assert str(error.value) == f"{plain} is no option: type {instead}"


@pytest.mark.parametrize(
    "words",
    [["--multirun", "seed=1,2"], ["--cfg", "job"], ["~average"], ["--run"], ["-m", "--info", "config"], ["nobody"]],
)
def test_hydra_s_own_flags_and_what_means_nothing_are_left_to_it(words):
    refuse_plain_words(words, "train")


def test_commands_say_it(command):
    assert "--epochs: options have no dashes; type trainer.epochs=3\n" in command(train, "--epochs", "3").errors
    assert command(report, "a/run").errors == "error: a/run is no option: type run=a/run\n"
