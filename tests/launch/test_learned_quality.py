"""Training learns: what `make demo` runs ends far above a random ranking, and each stage adds to the one before."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Its test MRR is .63 in every run on a CPU (conf/experiment/demo.yaml), and a random ranking's .003. Below the floors
# something no longer learns, though all formulas may still be right.
TEST_MRR, TEST_HITS_AT_10 = 0.60, 0.79


@pytest.mark.slow
def test_the_demo_reaches_its_quality(shell, tmp_path):
    folder = tmp_path / "run"
    # In a process of its own: in this one, where shapes are checked, it takes three times as long.
    words = [ROOT / "launch" / "train.py", "experiment=demo", "launch.device=cpu", f"hydra.run.dir={folder}"]
    outcome = shell(words, folder=tmp_path, timeout=600)
    assert outcome.code == 0, outcome.errors
    test = json.loads((folder / "result.json").read_text())["test"]["both"]
    assert test["mrr"] > TEST_MRR
    assert test["hits@10"] > TEST_HITS_AT_10
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    reached = {line["stage"]: line[key] for line in lines for key in line if key.endswith("valid/mrr")}
    assert reached["adversarial"] > reached["pretrain_discriminator"] + 0.02  # usually + .05: the generator helps
