"""Resuming: a finished run goes on to more epochs, what comes too late is refused, paths hold from anywhere."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from launch import evaluate, export, train
from trainer.evaluate import RankingEvaluator

ODD = "r=1, [2] Ü's"


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def read(folder: Path) -> tuple[dict, list[dict]]:
    """The result and the metrics of steps, but for times."""
    result = json.loads((folder / "result.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: line[key] for key in line if not key.startswith("speed/")} for line in lines]
    return {key: result[key] for key in result if key not in ("seconds", "triples_per_second")}, metrics


def test_a_finished_run_goes_on_to_more_epochs_as_if_unbroken(command, tiny, copy, tmp_path):
    # Pre-training takes a fifth of the epochs, rounded up: one, with 2 epochs as with 4.
    outcome = command(train, f"resume={copy}", "trainer.epochs=4")
    assert outcome.code == 0, outcome.errors
    assert command(train, *tiny, "trainer.epochs=4", f"hydra.run.dir={tmp_path / 'unbroken'}").code == 0
    assert read(copy) == read(tmp_path / "unbroken")
    assert yaml.safe_load((copy / "config.yaml").read_text())["trainer"]["epochs"] == 4


def test_stages_that_are_over_keep_their_epochs(command, copy):
    outcome = command(train, f"resume={copy}", "trainer.epochs=6")  # a fifth of 6 is 2
    assert outcome.code == 0, outcome.errors
    config = yaml.safe_load((copy / "config.yaml").read_text())
    assert [config["pretrain"][name]["epochs"] for name in ("generator", "discriminator")] == [1, 1]


def test_a_finished_run_that_is_given_nothing_new_is_ranked_again(command, finished, copy):
    before = (copy / "config.yaml").read_bytes(), (copy / "overrides.yaml").read_bytes()
    (copy / "result.json").unlink()
    outcome = command(train, f"resume={copy}", "trainer.evaluation_memory_mb=64")
    assert outcome.code == 0, outcome.errors
    assert read(copy) == read(finished)
    assert ((copy / "config.yaml").read_bytes(), (copy / "overrides.yaml").read_bytes()) == before


# With adaptive averages, each of the four validations but the first ranks two models.
@pytest.mark.parametrize(("average", "validations"), [("null", 4), ("adaptive", 7)])
def test_the_end_of_a_run_takes_the_ranking_of_its_best_validation(
    average, validations, command, tiny_plain, monkeypatch
):
    ranked, evaluate_all = [], RankingEvaluator.evaluate

    def evaluate_counted(self, model, triples):
        ranked.append(len(triples))
        return evaluate_all(self, model, triples)

    monkeypatch.setattr(RankingEvaluator, "evaluate", evaluate_counted)
    options = [*tiny_plain, "generator=uniform", f"average={average}", "trainer.epochs=4", "hydra.run.dir=run"]
    assert command(train, *options).code == 0
    result, _ = read(Path("run"))
    assert len(ranked) == validations + 1  # of test
    # To the last digit what a ranking of the loaded checkpoint gives.
    assert command(train, "resume=run").code == 0
    assert len(ranked) == validations + 1 + 2
    assert read(Path("run"))[0] == result


def test_a_run_of_a_version_that_counted_steps_between_checkpoints_is_taken(command, copy):
    config, overrides = copy / "config.yaml", copy / "overrides.yaml"
    options = yaml.safe_load(config.read_text())
    options["trainer"]["checkpoint_every"] = options["trainer"].pop("checkpoint_minutes") * 100
    config.write_text(yaml.safe_dump(options))
    overrides.write_text(yaml.safe_dump([*yaml.safe_load(overrides.read_text()), "trainer.checkpoint_every=1000"]))
    for module, words in ((evaluate, [f"run={copy}"]), (train, [f"resume={copy}"])):
        outcome = command(module, *words)
        assert outcome.code == 0, outcome.errors


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("loss.margin=5.0", "loss.margin=5.0 (was 3.0) would have no effect: "),
        ("trainer.patience=9", "trainer.patience=9 (was 5) would have no effect: "),
        ("term=[n3]", "terms (was {}) would have no effect: "),
        ("trainer.epochs=1", "trainer.epochs=1 is too few: "),
        ("pretrain.generator.epochs=3", "pretrain.generator.epochs=3 comes too late: "),
    ],
)
def test_what_a_finished_run_can_t_follow_is_refused(option, message, command, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "train.log"}
    outcome = command(train, f"resume={copy}", option)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
    assert message in outcome.errors
    assert {path: path.read_bytes() for path in before} == before


def test_another_model_of_the_same_shape_is_refused(command, tiny_plain, tmp_path):
    run = tmp_path / "distmult"
    options = [*tiny_plain, "discriminator=distmult", "trainer.epochs=1"]
    assert command(train, *options, f"hydra.run.dir={run}").code == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    for option, key in (
        ("discriminator=simple", "_target_=SimplE"),
        ("discriminator.reciprocal=true", "reciprocal=True"),
        ("encoder=linear", "encoder=Linear in this run, but encoder=null"),
    ):
        for words in (
            [f"resume={run}", "trainer.epochs=2"],
            [*options, f"pretrain.discriminator.checkpoint={run}", f"hydra.run.dir={tmp_path}/other"],
        ):
            outcome = command(train, *words, option)
            assert (outcome.code, outcome.errors.count("\n")) == (1, 1), outcome.errors
            assert key in outcome.errors
            assert f"in the run of {run}/checkpoints/" in outcome.errors
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_keeps_the_metric_that_chooses_its_best(command, tiny_plain):
    options = [
        *tiny_plain,
        "generator=uniform",
        "trainer.metric=hits@10",
        "trainer.valid_sample=40",
        "trainer.epochs=4",
    ]
    assert command(train, *options, "hydra.run.dir=run").code == 0
    result, lines = read(Path("run"))
    name = "valid_sample/hits@10"
    best = max((line for line in lines if name in line), key=lambda line: line[name])
    assert result["metric"] == name
    assert best["valid_sample/both/count"] == 80 < result["valid"]["both"]["count"]
    assert result["best_step"] == best["step"]
    for option, said in (
        ("trainer.metric=mrr", "trainer.metric is mrr in this run, but hits@10 in "),
        ("trainer.valid_sample=null", "trainer.valid_sample is None in this run, but 40 in "),
    ):
        refused = command(train, "resume=run", option, "trainer.epochs=6")
        assert (refused.code, refused.errors.count("\n")) == (1, 1)
        assert f"error: resume: {said}" in refused.errors
    assert command(train, "resume=run", "trainer.epochs=6").code == 0


def test_a_run_that_stopped_early_says_how_it_goes_on(command, tiny_plain):
    options = [*tiny_plain, "generator=uniform", "optimizer.lr=1e-9", "trainer.patience=1", "trainer.epochs=9"]
    assert command(train, *options, "hydra.run.dir=run").code == 0
    steps = read(Path("run"))[0]["steps"]
    refused = command(train, "resume=run", "trainer.epochs=10")
    assert refused.code == 1
    advice = re.search(r"to go on add (\S+)", refused.errors)
    assert advice is not None, refused.errors
    assert command(train, "resume=run", "trainer.epochs=10", advice[1]).code == 0
    assert read(Path("run"))[0]["steps"] > steps


def test_a_folder_of_any_name_from_any_place(command, tiny_plain, tmp_path, monkeypatch):
    """Written with relative paths in one place, and used from another."""
    (tmp_path / ODD).mkdir()
    facts = [f"e{n}\tr{n % 3}\te{n * n % 40}\n" for n in range(40)]
    for split, lines in (("train", facts), ("valid", facts[:5]), ("test", facts[5:9])):
        (tmp_path / ODD / f"{split}.txt").write_text("".join(lines))
    plain = [line for line in tiny_plain if not line.startswith("graph.")]
    options = [*plain, "generator=uniform", "graph=folder", f'graph.path="{ODD}"', "trainer.epochs=1"]
    made = command(train, *options, f'hydra.run.dir="runs/{ODD}"')
    assert made.code == 0, made.errors
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = f'"../runs/{ODD}"'
    for module, words in (
        (train, [f"resume={run}", "trainer.epochs=2"]),
        (evaluate, [f"run={run}", f'out="{ODD}.json"']),
        (export, [f"run={run}", f'out="{ODD}"']),
        (train, [*options[:-2], f'graph.path="../{ODD}"', f"pretrain.discriminator.checkpoint={run}"]),
    ):
        outcome = command(module, *words)
        assert outcome.code == 0, (module, outcome.errors)
    assert (elsewhere / f"{ODD}.json").is_file()
    assert (elsewhere / ODD / "model.json").is_file()


def test_a_graph_found_by_the_environment_is_found_again_without_it(command, tiny_plain, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "nations"
    folder.mkdir(parents=True)
    facts = [f"e{n}\tr{n % 3}\te{n * n % 40}\n" for n in range(40)]
    for start, split in enumerate(("train", "valid", "test")):
        (folder / f"{split}.txt").write_text("".join(facts[start : start + 20]))
    plain = [line for line in tiny_plain if not line.startswith("graph.")]
    monkeypatch.setenv("ADVKGE_DATA", "data")
    assert command(train, *plain, "generator=uniform", "graph=nations", "hydra.run.dir=run").code == 0
    monkeypatch.delenv("ADVKGE_DATA")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = command(train, "resume=../run", "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors
    assert command(evaluate, "run=../run").code == 0


def test_the_command_that_goes_on_with_a_used_folder_works_as_printed(command, tiny_plain, tmp_path):
    options = [*tiny_plain, "generator=uniform", "trainer.epochs=1", f'hydra.run.dir="{ODD}"']
    assert command(train, *options).code == 0
    refused = command(train, *options)
    assert refused.code == 1
    advised = re.search(r"go on with it by (.*), or name another", refused.errors)
    assert advised is not None
    _, script, *words = shlex.split(advised[1])
    assert script == train.__file__
    assert command(train, *words, "trainer.epochs=2").code == 0


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_a_run_of_any_last_stage_gives_its_model_to_another(name, command, tiny, tiny_plain, finished):
    source = finished
    if name == "discriminator":
        source = Path("plain")
        assert command(train, *tiny_plain, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=plain").code == 0
    outcome = command(train, *tiny, f"pretrain.{name}.checkpoint={source}", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.errors
    assert f"pretrain_{name}" not in json.loads(Path("run/result.json").read_text())["stages"]
    shutil.rmtree(source) if name == "discriminator" else None
    assert command(train, "resume=run", "trainer.epochs=3").code == 0  # the run has what it took from there


def test_a_run_without_a_generator_s_model_has_none_to_give(command, tiny, tiny_plain):
    assert command(train, *tiny_plain, "generator=uniform", "trainer.epochs=1", "hydra.run.dir=plain").code == 0
    outcome = command(train, *tiny, "pretrain.generator.checkpoint=plain", "hydra.run.dir=run")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "pretrain.generator.checkpoint: " in outcome.errors
    assert outcome.errors.endswith("is of a run whose generator has no model\n")


@pytest.mark.parametrize("content", [None, "[]\n"])
def test_a_run_that_lost_its_options_does_not_go_on_with_others(content, command, copy, tmp_path, monkeypatch):
    file = copy / "overrides.yaml"
    typed = yaml.safe_load(file.read_text())
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    before = (copy / "config.yaml").read_bytes()
    # The options that a checkpoint itself is compared by.
    outcome = command(
        train, f"resume={copy}", "recipe=none", "graph.num_people=100", "trainer.batch_size=256", "discriminator.dim=8"
    )
    assert outcome.code == 1
    assert (
        f"error: resume: {file} is {'missing' if content is None else 'empty'}, which has the options" in outcome.errors
    )
    assert "trainer.log_every=100 (was 2)" in outcome.errors
    assert "trainer.batch_size" not in outcome.errors
    assert (copy / "config.yaml").read_bytes() == before
    outcome = command(train, f"resume={copy}", *typed, "trainer.epochs=3")
    assert outcome.code == 0, outcome.errors


def test_another_graph_is_named_and_not_its_options(command, copy):
    outcome = command(train, f"resume={copy}", "graph=umls", "graph.root=nowhere")
    assert outcome.code == 1
    said = f"error: resume: graph=umls: {copy} was trained on graph=synthetic and goes on with it; leave this out\n"
    assert outcome.errors == said


def test_the_same_graph_may_be_named_again(command, copy):
    assert command(train, f"resume={copy}", "graph=synthetic").code == 0
