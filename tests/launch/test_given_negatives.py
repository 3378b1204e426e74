"""A run with negatives from a file: the path is relative to where it was typed, and a resumed run has the same file."""

import shutil
from pathlib import Path

import yaml

from launch import train
from launch.arguments import is_path

NEGATIVES = Path(__file__).parents[1] / "generator" / "negatives.tsv"
LINE = "generator.parts.hard.file=wrong.tsv"
MIXED = ["generator=mixture", "generator@generator.parts.hard=from_file", "generator.parts.easy.num_negatives=4", LINE]


def test_a_part_of_a_mixture_reads_its_file_also_when_the_run_goes_on(command, tiny_plain, tmp_path, monkeypatch):
    plain = [option for option in tiny_plain if not option.startswith("trainer.epochs")]
    shutil.copy(NEGATIVES, tmp_path / "wrong.tsv")
    outcome = command(train, *plain, *MIXED, "trainer.epochs=1", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    saved = yaml.safe_load((tmp_path / "run" / "overrides.yaml").read_text())
    assert f"generator.parts.hard.file={tmp_path}/wrong.tsv" in saved
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = command(train, f"resume={tmp_path}/run", "trainer.epochs=2")
    assert outcome.code == 0, outcome.errors
    (tmp_path / "wrong.tsv").write_text("".join(NEGATIVES.read_text().splitlines(keepends=True)[:5]))
    outcome = command(train, f"resume={tmp_path}/run", "trainer.epochs=3")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "generator.file has other triples than when the run was started" in outcome.errors


def test_a_wrong_line_is_named_before_training(command, tiny_plain, tmp_path):
    (tmp_path / "wrong.tsv").write_text(NEGATIVES.read_text() + "nobody\tparent_of\tperson_01\n")
    outcome = command(train, *tiny_plain, *MIXED, "hydra.run.dir=run")
    where = f"generator.parts.hard.file: {tmp_path}/wrong.tsv, line 30"
    assert outcome.errors == f"error: {where}: the head 'nobody' is no entity of the graph\n"


def test_which_options_are_files():
    for key in ("generator.file", "generator.parts.a_b.file", "pretrain.generator.sampler.hard.file", "graph.path"):
        assert is_path(key)
    for key in ("generator.files", "trainer.file", "generator.file.x", "file"):
        assert not is_path(key)
