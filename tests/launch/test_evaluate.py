"""evaluate.py ranks a saved run again, and finds what the run itself found."""

import json
import shutil
from pathlib import Path

import pytest

from launch import evaluate, export

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_finds_the_metrics_of_the_run(split, command, finished, tmp_path):
    outcome = command(evaluate, f"run={finished}", f"split={split}", f"out={tmp_path}/found.json")
    assert outcome.code == 0, outcome.errors
    found = json.loads((tmp_path / "found.json").read_text())
    assert found[split] == json.loads((finished / "result.json").read_text())[split]
    known = "train+valid+test" if split == "test" else "train+valid"
    assert found["filter"] == known
    assert f"{split} both" in outcome.output
    assert f"filtered by: {known}" in outcome.output


def test_validation_can_be_filtered_by_test_facts_too(command, finished, tmp_path):
    assert command(evaluate, f"run={finished}", "split=valid", "filter=all", f"out={tmp_path}/all.json").code == 0
    found = json.loads((tmp_path / "all.json").read_text())
    default = json.loads((finished / "result.json").read_text())["valid"]["both"]
    assert found["filter"] == "train+valid+test"
    assert found["valid"]["both"]["mean_rank"] < default["mean_rank"]
    assert found["valid"]["both"]["count"] == default["count"]


def test_writes_nothing_unless_asked(command, finished, tmp_path):
    before = sorted(finished.rglob("*"))
    assert command(evaluate, f"run={finished}").code == 0
    assert list(tmp_path.iterdir()) == []
    assert sorted(finished.rglob("*")) == before


def test_takes_a_checkpoint_by_name(command, finished):
    named = json.loads((finished / "checkpoints" / "best_pretrain_discriminator.json").read_text())["checkpoint"]
    tables = []
    for name in ("best_pretrain_discriminator", named):
        outcome = command(evaluate, f"run={finished}", f"checkpoint={name}")
        assert f"checkpoint: {finished / 'checkpoints' / named}\n" in outcome.output, outcome.errors
        tables.append(outcome.output)
    assert tables[0] == tables[1] != command(evaluate, f"run={finished}").output


def test_refuses_another_graph(command, run_copy):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("num_people: 100", "num_people: 101"))
    outcome = command(evaluate, f"run={run_copy}")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "was trained on a graph with fingerprint" in outcome.errors


@pytest.mark.parametrize(
    "target",
    ["os.system", "graph.partition.os.system", "launch.ranks.run_ranks", "graph.nowhere.thing", "graph.synthetic"],
)
def test_runs_nothing_but_our_own_from_a_run_s_config(target, command, run_copy):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("graph.synthetic.family_graph", target))
    outcome = command(evaluate, f"run={run_copy}")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert f"_target_ {target!r}" in outcome.errors or f"got {target!r}" in outcome.errors


@pytest.mark.parametrize("module", [evaluate, export])
def test_says_which_file_is_damaged(module, command, run_copy):
    rows = next((run_copy / "checkpoints").glob("*/rows_0_of_1.safetensors")).name
    for file in (run_copy / "checkpoints").glob(f"*/{rows}"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    outcome = command(module, f"run={run_copy}", "out=out")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert f"{rows} is damaged" in outcome.errors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["run=/nowhere"], "run must be a run folder, one with a config.yaml, got /nowhere"),
        (["split=train"], "split must be one of valid, test, got 'train'"),
        (["filter=none"], "filter must be one of default, all, got 'none'"),
        (["checkpoint=typo"], "checkpoint: no checkpoint at "),
        (["graph.root=."], "graph.root: the graph of "),
        (["splt=test"], "splt"),
    ],
)
def test_one_line_says_what_is_wrong(wrong, message, command, finished):
    outcome = command(evaluate, f"run={finished}", *wrong)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert outcome.errors.startswith("error: ")
    assert message in outcome.errors


@pytest.mark.parametrize("content", ["{", "graph: 1\n", "- 1\n", ""])
def test_damaged_config(content, command, run_copy):
    (run_copy / "config.yaml").write_text(content)
    outcome = command(evaluate, f"run={run_copy}")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert "config.yaml is damaged: " in outcome.errors


@pytest.mark.slow
def test_finds_the_same_on_two_ranks(shell, finished, tmp_path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", ROOT / "launch/evaluate.py"]
    outcome = shell([*words, f"run={finished}", f"out={tmp_path}/found.json", "launch.device=cpu"], folder=tmp_path)
    assert outcome.code == 0, outcome.errors
    assert outcome.output.count("test both") == 1
    found = json.loads((tmp_path / "found.json").read_text())["test"]["both"]
    expected = json.loads((finished / "result.json").read_text())["test"]["both"]
    assert found == pytest.approx(expected, rel=1e-9)
