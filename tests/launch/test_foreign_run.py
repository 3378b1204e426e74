"""Run folders that come from someone else: nothing that they name runs, and one line says what is wrong."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from graph.errors import InputError
from launch import evaluate, export, scorecard, train
from launch.saved_options import saved_options
from trainer.strict_yaml import read_yaml


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "foreign"))


@pytest.fixture
def canary(tmp_path) -> Path:
    """A file that appears if code of a folder runs."""
    return tmp_path / "canary"


def refused(outcome, said: str) -> None:
    assert outcome.code == 1
    assert re.fullmatch(r"error: [^\n]*\n", outcome.errors), outcome.errors
    assert said in outcome.errors


def edit(run: Path, key: str, value: object) -> None:
    """Sets a value of config.yaml."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *path, name = key.split(".")
    node = config
    for part in path:
        node = node.setdefault(part, {})
    node[name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("program", [evaluate, export])
def test_a_target_may_not_change_after_it_was_checked(program, command, run, canary):
    # placement is replaced when a run is read; a name that followed from it was another one when it was called.
    edit(run, "graph", {"_target_": "${names[${placement._target_}]}", "command": f"touch {canary}"})
    names = {"graph.partition.random_placement": "os.system", "other": "graph.synthetic.family_graph"}
    edit(run, "names", names)
    edit(run, "placement", {"_target_": "other"})
    refused(command(program, f"run={run}", "out=out"), "graph._target_ must be a plain value, but has an interpolation")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("loss.margin", "${oc.env:HOME}", "config.yaml: loss.margin must be a plain value, but has an interpolation"),
        (
            "generator._target_",
            "graph.partition.os.system",
            "generator._target_ must be one that a file of conf/ names",
        ),
        ("generator._target_", "trainer.runtime.Runtime.start", "must be one that a file of conf/ names"),
        ("generator.parts", [{"a": {"_target_": "os.system"}}], "generator.parts.0.a._target_ must be one that"),
        ("graph._target_", "embedding.optimizer.DenseAdam", "graph must be one of conf/graph, got"),
        ("graph._partial_", True, "graph must be one of conf/graph, got"),
        ("graph._partial_", "yes", "graph._partial_ must be true or false, got 'yes'"),
        ("graph._args_", ["x"], "graph._args_ is no option of a run"),
        ("discriminator.scoring._recursive_", False, "scoring._recursive_ is no option of a run"),
        ("discriminator", 7, "config.yaml is damaged: it has no discriminator.scoring"),
        ("discriminator.scoring", "transe", "discriminator.scoring must be one of conf/discriminator, got 'transe'"),
        ("discriminator", {}, "config.yaml is damaged: it has no discriminator.scoring"),
        ("trainer.evaluation_memory_mb", "much", "config.yaml: Value 'much' of type 'str' could not be converted"),
        ("trainer.more", 1, "config.yaml: Key 'more' not in 'TrainerOptions'"),
    ],
)
def test_a_wrong_config_is_refused(key, value, said, command, run):
    edit(run, key, value)
    refused(command(evaluate, f"run={run}"), said)


def test_a_graph_is_kept_where_the_user_says(command, run, tmp_path):
    triples = tmp_path / "triples"
    triples.mkdir()
    for split in ("train", "valid", "test"):
        (triples / f"{split}.txt").write_text("a\tr\tb\n")
    folder = {"_target_": "graph.reading.read_folder", "path": str(triples), "columns": "hrt"}
    edit(run, "graph", {**folder, "cache": str(tmp_path / "theirs")})
    refused(command(evaluate, f"run={run}", f"graph.cache={tmp_path / 'mine'}"), "was trained on a graph")
    assert (tmp_path / "mine").exists()
    assert not (tmp_path / "theirs").exists()


BOMBS = {
    "aliases": "a: &a [x]\n" + "".join(f"a{n}: &a{n} [*a, *a]\n" for n in range(9)),
    "merge": "a:\n  <<: {b: 1}\n",
    "itself": "&a [*a]",
    "levels": "[" * 300 + "]" * 300,
    "block levels": "".join(" " * level + "-\n" for level in range(300)),
    "tag": "!!python/object/apply:os.system [x]",
    "twice": "a: 1\na: 2\n",
    "large": "#" * 100_000,
    "list": "[" + "a," * 16_000 + "]\n]",
    "number": "a: " + "9" * 5000,
    "escape": 'a: "\\e[31m"',
    "nul": 'a: "\\0"',
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_in_a_line_within_seconds(bomb, tmp_path):
    content = BOMBS[bomb]
    (tmp_path / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(InputError, match=r"config\.yaml.*") as error:
        read_yaml(tmp_path / "config.yaml")
    assert time.process_time() - started < 5  # .7 s here; what it guards against takes minutes
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_what_omegaconf_writes_is_read_as_it_reads_it(tmp_path):
    from omegaconf import OmegaConf

    values = {
        "a": 1e-3,
        "b": "1e-3",
        "c": "2001-01-01",
        "d": [None, True, "yes", "ü = [x], y"],
        "e": {"f": -2, "g": 1e30},
    }
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert read_yaml(tmp_path / "config.yaml") == values


def of_lines(folder: Path, *lines: str) -> Path:
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(lines)))
    return folder / "overrides.yaml"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("optimizer=../../x/evil", "a choice must be the name of a file of conf/"),
        ("optimizer=/x/evil", "a choice must be the name of a file of conf/"),
        ("term=[n3,../x]", "a choice must be the name of a file of conf/"),
        ("discriminator@generator.model=../x", "a choice must be the name of a file of conf/"),
        ("loss.margin=${oc.env:SECRET}", "type loss.margin=VALUE yourself"),
        (r"loss.margin=$\{oc.env:SECRET\}", "type loss.margin=VALUE yourself"),
        ("loss={margin: ${oc.env:SECRET}}", "type loss=VALUE yourself"),
        ("+loss={_target_: os.system}", "a line may not name what is called"),
        ("generator.parts={a: [{_args_: [1]}]}", "a line may not name what is called"),
        ("adam@hydra.launcher=x", "a line may set an option of the training and nothing else"),
        ("optimizer@hydra.launcher=adam", "a line may set an option of the training and nothing else"),
        ("optimizer@_global_=adam", "a line may set an option of the training and nothing else"),
        ("hydra/launcher=basic", "a line may set an option of the training and nothing else"),
        ("graph={cache: /x}", "a line may not say where a graph is kept"),
        ("seed=1,2", "an option must have one value"),
        ("optimizer=glob(*)", "an option must have one value"),
        ("~seed", "a line may not take away what every run has"),
        ("--config-dir=x", "each line must be an option, KEY=VALUE"),
        ("seed=" + "[" * 100, "each line must be an option, KEY=VALUE"),
        ("seed=" + "9" * 4500, "each line must be an option, KEY=VALUE"),
        ("a" * 5001 + "=1", "must be at most 5000 characters"),
        ("seed=1\nresume=x", "without control characters"),
    ],
)
def test_a_saved_option_is_of_the_training_alone(line, said, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    with pytest.raises(InputError, match=r"overrides\.yaml: ") as error:
        saved_options(of_lines(tmp_path, line), [])
    assert said in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)
    # What was typed anew is not looked at, so that the user can always mend a line.
    key = line.split("=", 1)[0].lstrip("+~")
    if "each line" not in said and "characters" not in said:
        assert saved_options(tmp_path / "overrides.yaml", [key]) == ([], [])


def test_where_a_run_runs_is_the_user_s(tmp_path):
    ours = ["graph=folder", "graph.path='/a b/c'", "+generator.parts.more._partial_=true", "term=[n3]", "seed=3"]
    theirs = ["launch.ranks=2000", "tracker=wandb", "trackers.wandb.mode=online", "graph.cache=/x", "launch={ranks: 3}"]
    assert saved_options(of_lines(tmp_path, *ours, *theirs), []) == (ours, theirs)


def test_a_resumed_run_says_what_it_did_not_take(command, run):
    file = of_lines(run, *yaml.safe_load((run / "overrides.yaml").read_text()), "launch.ranks=2000", "tracker=wandb")
    lines = yaml.safe_load(file.read_text())
    outcome = command(train, f"resume={run}", "launch.device=cpu", "hydra/job_logging=stdout")
    assert outcome.code == 0, outcome.errors
    said = "these options of the run folder are not used; type again those that you want: "
    assert f"{said}launch.ranks=2000 tracker=wandb\n" in outcome.output
    assert not (run / "wandb").exists()
    assert yaml.safe_load(file.read_text()) == lines  # it was finished, so nothing is written anew


def test_a_chosen_file_may_not_name_what_conf_does_not(command, run, tmp_path, canary):
    # A line may choose no file outside of conf/; one that gets into the config in another way is still not called.
    (tmp_path / "more" / "optimizer").mkdir(parents=True)
    (tmp_path / "more" / "optimizer" / "evil.yaml").write_text(f"_target_: os.system\ncommand: touch {canary}\n")
    of_lines(run, *yaml.safe_load((run / "overrides.yaml").read_text()), "optimizer=evil")
    outcome = command(train, f"resume={run}", f"--config-dir={tmp_path / 'more'}")
    refused(outcome, "optimizer._target_ must name a ModelOptimizer, got 'os.system'")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "train.log", "config.yaml.tmp", "checkpoints/latest.partial"])
def test_a_resumed_run_writes_through_no_link(name, command, run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(precious)
    refused(command(train, f"resume={run}"), f"{run / name} is a link to {precious}, outside of the run folder")
    assert precious.read_text() == "mine"


def test_a_resumed_run_waits_for_no_pipe(command, run):
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    refused(command(train, f"resume={run}"), "metrics.jsonl must be a file or a folder")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cell.json", {"seed": "x"}, "seed must be a whole number, got 'x'"),
        ("cell.json", {"num_negatives": -1}, "num_negatives must be a whole number of at least 0, or null, got -1"),
        ("cell.json", {"limit": {}}, "limit must be a budget or a number of epochs"),
        ("cell.json", {"sampler": "<b>\n"}, "sampler must be a name, got '<b>\\n'"),
        ("cell.json", "[" * 100_000, "cell.json is damaged: it is nested too deeply"),
        ("cell.json", "{}", "cell.json is damaged: it has no field graph"),
        ("result.json", "[]", "result.json is damaged: it must be fields by name, got []"),
        (
            "result.json",
            '{"valid": {"both": {"mrr": NaN}}, "test": {}}',
            "valid.both.mrr must be a finite number, got nan",
        ),
        ("metrics.jsonl", "3\n", "metrics.jsonl, line 1: it must have a step and the name of a stage, got 3"),
        ("metrics.jsonl", "", "the last stage must have a validation"),
    ],
)
def test_a_cell_of_another_make_is_refused(file, content, said, command, tmp_path):
    cell = tmp_path / "cells" / "foreign"
    cell.mkdir(parents=True)
    record = {"graph": "g", "discriminator": "d", "sampler": "s", "seed": 0, "ranks": 1, "options": [], "error": None}
    record |= {"limit": {"budget": 1e6, "epochs": None}, "epochs": 4, "wall_seconds": 2.0}
    line = {"step": 1, "epoch": 0, "stage": "training", "valid/mrr": 0.5, "quality/hardness": 0.5, "quality/active": 1}
    line |= {"cost/candidates": 5, "cost/seconds": 1, "cost/peak_mb": 9, "cost/step_seconds": 0.1}
    metrics = {"both": {"mrr": 0.5, "hits@10": 0.5}}
    good = {"cell.json": json.dumps(record), "metrics.jsonl": json.dumps(line)}
    good["result.json"] = json.dumps({"valid": metrics, "test": metrics, "seconds": 2.5})
    changed = content if isinstance(content, str) else json.dumps(record | content)
    for name, text in (good | {file: changed}).items():
        (cell / name).write_text(text)
    refused(command(scorecard, f"scorecard.folders=[{tmp_path}]", "hydra.run.dir=all"), said)
