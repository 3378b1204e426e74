import csv
import json
import logging
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from graph.errors import InputError
from tests.wandb_files import history, records
from tests.worlds import KBGANRun
from trainer.pointer import trained_checkpoint
from trainer.tracking.csv_file import CsvTracker
from trainer.tracking.json_lines import JsonLinesTracker
from trainer.tracking.tensorboard import TensorBoardTracker
from trainer.tracking.tracker import Title
from trainer.tracking.wandb_run import WandbTracker

TITLE = Title(name="rotate kbgan umls seed 3", group="sweep 7", job_type="train", tags=("rotate", "umls"))


def wandb_tracker(**options: Any) -> WandbTracker:
    defaults = {"mode": None, "name": None, "group": None, "tags": [], "artifact": False, "init_timeout": 5.0}
    defaults |= {"hardest_negatives": False, "predictions": 0, "plots": False, "export": False}
    return WandbTracker(project="advkge", **{**defaults, **options})


def csv_tracker() -> CsvTracker:
    return CsvTracker(hardest_negatives=True, predictions=10)


def tensorboard_tracker() -> TensorBoardTracker:
    return TensorBoardTracker(hardest_negatives=True, predictions=10, plots=True)


def track(folder: Path, metrics: list[tuple[int, dict[str, Any]]], *, from_step: int = 0) -> None:
    tracker = JsonLinesTracker()
    tracker.start(folder, {}, title=TITLE, run_id=None, from_step=from_step)
    for step, values in metrics:
        tracker.log(step, values)
    tracker.finish(None)


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_a_step(tmp_path: Path):
    track(tmp_path, [(1, {"epoch": 0, "train/loss": 2.5, "valid/mrr": 0.25})])
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 1, "epoch": 0, "loss": 2.5, "valid/mrr": 0.25}


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path):
    tracker = JsonLinesTracker()
    tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=0)
    tracker.log(1, {"train/loss": 1.0})
    assert steps(tmp_path) == [1]
    tracker.finish(None)


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path):
    track(tmp_path, [(step, {}) for step in (1, 2, 2, 3, 4)])
    track(tmp_path, [(3, {"again": 1})], from_step=2)
    assert steps(tmp_path) == [1, 2, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', "{", '{"loss": 1.0}', "2", '"step"'])
def test_a_line_that_was_cut_off_is_dropped(torn: str, tmp_path: Path):
    track(tmp_path, [(1, {})])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    track(tmp_path, [(2, {})], from_step=1)
    assert steps(tmp_path) == [1, 2]


def test_a_new_run_in_an_old_folder_starts_over(tmp_path: Path):
    track(tmp_path, [(1, {}), (2, {})])
    track(tmp_path, [(1, {})])
    assert steps(tmp_path) == [1]


@contextmanager
def most_bytes(count: int) -> Iterator[None]:
    """Lets no file of this process have more bytes; to write more is an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_tracker_can_still_finish(tmp_path: Path):
    tracker = JsonLinesTracker()
    tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=0)
    with most_bytes(50):
        tracker.log(1, {})
        with pytest.raises(InputError, match=r"metrics.jsonl can't be written: File too large"):
            tracker.log(2, {"loss": "x" * 100})
        tracker.finish(None)
    assert json.loads((tmp_path / "metrics.jsonl").read_bytes().splitlines()[0]) == {"step": 1}


def test_a_run_that_goes_on_on_a_full_disk_is_one_line_and_loses_none(tmp_path: Path):
    before = b'{"step": 1}\n{"step": 2}\n'
    (tmp_path / "metrics.jsonl").write_bytes(before)
    with most_bytes(10), pytest.raises(InputError, match=r"metrics.jsonl can't be written: File too large"):
        JsonLinesTracker().start(tmp_path, {}, title=TITLE, run_id=None, from_step=2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_wandb_mode_is_checked():
    with pytest.raises(InputError, match=r"trackers.wandb.mode must be online or offline, got 'disabled'"):
        wandb_tracker(mode="disabled")


def wandb_run(folder: Path, mode: str, run_id: str | None, metrics: list[tuple[int, dict[str, Any]]]) -> str:
    tracker = wandb_tracker(mode=mode, group="sweep")
    tracker.start(folder, {"seed": 3, "trainer": {"epochs": 2}}, title=TITLE, run_id=run_id, from_step=0)
    for step, values in metrics:
        tracker.log(step, values)
    tracker.finish({"test": {"both": {"mrr": 0.5}}, "best_step": 1})
    assert tracker.run_id is not None
    return tracker.run_id


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_wandb_offline_writes_a_run_that_can_be_read_back(tmp_path: Path):
    first = [(1, {"train/loss": 2.5, "stage": "adversarial"}), (2, {"valid/mrr": 0.25, "generator/reward": -1.5})]
    run_id = wandb_run(tmp_path, "offline", None, first)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.name == f"run-{run_id}.wandb"
    rows = history(file)
    assert [row["trainer/step"] for row in rows] == [1, 2]
    for row, (_, metrics) in zip(rows, first, strict=True):
        assert metrics.items() <= row.items()
    run = next(record.run for record in records(file) if record.HasField("run"))
    assert (run.project, run.run_group) == ("advkge", "sweep")
    assert json.loads(next(item.value_json for item in run.config.update if item.key == "seed")) == 3
    # A resumed run is the same one.
    assert wandb_run(tmp_path, "offline", run_id, [(2, {"train/loss": 2.0})]) == run_id
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [each.name for each in files] == [f"run-{run_id}.wandb"] * len(files)
    assert history(files[-1])[-1]["train/loss"] == 2.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What wandb is told is its server, and a key for it; it accepts nothing, so that connections wait to be seen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        yield listening


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WANDB_MODE", "disabled"),
        ("WANDB_DISABLED", "true"),
        pytest.param("WANDB_MODE", "offline", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("no_account")
def test_wandb_that_is_not_to_go_online_opens_no_connection(
    variable: str, value: str, server: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(variable, value)
    tracker = wandb_tracker()
    tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=0)
    tracker.log(1, {"train/loss": 2.5})
    tracker.finish({})
    with pytest.raises(BlockingIOError):
        server.accept()
    assert (tracker.run_id is None) == (value != "offline")  # what is not tracked has no id to resume
    assert bool(list(tmp_path.glob("wandb/offline-run-*"))) == (value == "offline")


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_an_option_wins_over_wandbs_variables_and_these_over_what_is_not_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    told = {"MODE": "disabled", "DIR": str(tmp_path / "elsewhere"), "NAME": "mine", "ENTITY": "us", "RUN_GROUP": "all"}
    (tmp_path / "elsewhere").mkdir()
    for name, value in told.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    tracker = wandb_tracker(mode="offline")
    tracker.start(tmp_path / "run", {}, title=TITLE, run_id=None, from_step=0)
    tracker.finish({})
    (file,) = tmp_path.glob("elsewhere/wandb/offline-run-*/*.wandb")
    history(file)
    run = next(record.run for record in records(file) if record.HasField("run"))
    assert (run.display_name, run.entity, run.run_group, run.project) == ("mine", "us", "all", "advkge")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WANDB_PROJECT", "", r"tracker=wandb: WANDB_PROJECT is set and empty; unset it, or give it a value"),
        ("WANDB_MODE", "of line", r"tracker=wandb: wandb refuses its variables: .*mode Input should be 'online'.*"),
        ("WANDB_RUN_ID", "a/b", r"tracker=wandb: wandb refuses its variables: Run ID cannot contain.*"),
    ],
)
@pytest.mark.usefixtures("no_account")
def test_a_variable_that_wandb_cant_use_is_one_line(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(variable, value)
    tracker = wandb_tracker()
    with pytest.raises(InputError) as refused:
        tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=0)
    assert re.fullmatch(message, str(refused.value))


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_a_key_that_cant_be_one_is_one_line_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with caplog.at_level(logging.INFO, logger="trainer"):
        wandb_run(tmp_path, "online", None, [(1, {"train/loss": 2.5})])
    said = [record.getMessage() for record in caplog.records if record.name.startswith("trainer")]
    assert len([line for line in said if "WANDB_API_KEY invalid" in line]) == 1
    assert list(tmp_path.glob("wandb/offline-run-*"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_wandb_keeps_stages_apart(tmp_path: Path):
    pretraining, own = {"stage": "pretrain_generator", "epoch": 3}, {"stage": "adversarial", "epoch": 0}
    rows = [(1, {**pretraining, "valid/mrr": 0.9, "train/loss": 3.0}), (2, {**own, "valid/mrr": 0.2}), (3, own)]
    wandb_run(tmp_path, "offline", None, [*rows, (4, {**own, "valid/mrr": 0.1})])
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    logged = history(file)
    assert {"pretrain_generator/valid/mrr": 0.9, "pretrain_generator/train/loss": 3.0}.items() <= logged[0].items()
    assert not {"valid/mrr", "train/loss", "epoch"} & logged[0].keys()
    assert [row["stage"] for row in logged] == ["pretrain_generator", *["adversarial"] * 3]
    assert [row.get("valid/mrr") for row in logged] == [None, 0.2, None, 0.1]
    best = {record.metric.name for record in records(file) if record.metric.summary.max}
    assert {"valid/mrr", "pretrain_generator/valid/mrr"} <= best


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_wandb_takes_a_table_and_plots(tmp_path: Path):
    from matplotlib.figure import Figure

    Figure().savefig(tmp_path / "mrr.png")
    tracker = wandb_tracker(mode="offline")
    tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=0)
    tracker.show("scorecard", [{"sampler": "uniform", "mrr": 0.25}], {"mrr": tmp_path / "mrr.png"})
    tracker.finish({})
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    row = history(file)[-1]
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/scorecard*.json")
    assert json.loads(table.read_text()) == {"columns": ["sampler", "mrr"], "data": [["uniform", 0.25]]}
    assert any("plots/mrr" in key for key in row)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/plots/mrr*.png"))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_wandb_without_an_account_goes_offline_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="trainer"):
        wandb_run(tmp_path, "online", None, [(1, {"train/loss": 2.5})])
    said = [record.getMessage() for record in caplog.records if record.name.startswith("trainer")]
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert len(said) == 2
    assert "tracked offline; upload it with `wandb sync`" in said[0]
    assert said[1].endswith(f"upload it with: wandb sync {file.parent}")
    assert history(file)[0]["train/loss"] == 2.5


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[" * 100_000, b'{"step": 1' + b"0" * 400 + b"}", b"3", b'{"step": []}']
)
def test_a_line_of_another_make_is_dropped_when_a_run_goes_on(line: bytes, tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    tracker = JsonLinesTracker()
    tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=5)
    tracker.finish(None)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'


def test_csv_has_a_column_for_each_metric_and_goes_on_after_a_resume(tmp_path: Path):
    def rows(from_step: int, metrics: list[tuple[int, dict[str, Any]]]) -> list[dict[str, str]]:
        tracker = csv_tracker()
        tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=from_step)
        for step, values in metrics:
            tracker.log(step, values)
        tracker.finish({})
        return list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))

    late = {"stage": "a, b", "valid/mrr": 0.25}
    assert rows(0, [(1, {"train/loss": 2.5}), (2, late), (3, {})]) == [
        {"step": "1", "train/loss": "2.5", "stage": "", "valid/mrr": ""},
        {"step": "2", "train/loss": "", "stage": "a, b", "valid/mrr": "0.25"},
        {"step": "3", "train/loss": "", "stage": "", "valid/mrr": ""},
    ]
    assert [row["step"] for row in rows(2, [(3, {"train/loss": 1.0}), (4, {"new": 7})])] == ["1", "2", "3", "4"]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "4,,,,7"
    assert [row["step"] for row in rows(0, [(1, {})])] == ["1"]  # a new run starts over


def test_csv_that_cant_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone/metrics.csv can't be written: No such file or directory"):
        csv_tracker().start(tmp_path / "gone", {}, title=TITLE, run_id=None, from_step=0)


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(tmp_path: Path):
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def track(from_step: int, metrics: list[tuple[int, dict[str, Any]]], result: dict[str, Any] | None) -> None:
        tracker = tensorboard_tracker()
        tracker.start(tmp_path, {}, title=TITLE, run_id=None, from_step=from_step)
        for step, values in metrics:
            tracker.log(step, values)
        tracker.show("hardest", [{"head": "a|b", "score": 0.5}], {"mrr": plot}, step=7)
        tracker.finish(result)

    plot = tmp_path / "mrr.png"
    Figure(figsize=(2, 1), dpi=100).savefig(plot)
    pretrained = {"stage": "pretrain_generator", "valid/mrr": 0.9}
    track(0, [(1, pretrained), (2, {"stage": "adversarial", "valid/mrr": 0.2}), (3, {"valid/mrr": 0.3})], None)
    track(2, [(3, {"valid/mrr": 0.4})], {"test": {"both": {"mrr": 0.5}}, "best_step": 3})
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(point.step, round(point.value, 3)) for point in read.Scalars("valid/mrr")] == [(2, 0.2), (3, 0.4)]
    assert read.Scalars("pretrain_generator/valid/mrr")[0].step == 1
    assert read.Scalars("test/both/mrr")[0].value == 0.5
    image = read.Images("plots/mrr")[-1]
    assert (image.step, image.width, image.height) == (7, 200, 100)
    assert read.Tensors("hardest/text_summary")[-1].step == 7
    (table,) = read.Tensors("hardest/text_summary")[0].tensor_proto.string_val
    assert table.decode().splitlines()[2] == "| a\\|b | 0.5 |"


@pytest.mark.slow
@pytest.mark.usefixtures("no_account")
def test_wandb_shows_what_a_run_is_and_keeps_its_checkpoint(tmp_path: Path):
    trained = KBGANRun(tmp_path / "run")
    trained.fit()
    tracker = wandb_tracker(mode="offline", tags=["mine"], artifact=True)
    tracker.start(trained.folder, {"seed": 3}, title=TITLE, run_id=None, from_step=0)
    (tmp_path / "mrr.svg").write_text("<svg/>")
    tracker.show("hardest", [{"head": "a"}], {"mrr": tmp_path / "mrr.svg"})
    tracker.finish({"test": {"both": {"mrr": 0.5}}})
    (file,) = trained.folder.glob("wandb/offline-run-*/*.wandb")
    rows = history(file)
    assert any("plots/mrr" in key for key in rows[-1])
    found = next(record.run for record in records(file) if record.HasField("run"))
    assert (found.display_name, found.run_group, found.job_type) == (TITLE.name, "sweep 7", "train")
    assert set(found.tags) == {"rotate", "umls", "mine"}
    artifacts = [record.artifact for record in records(file) if record.HasField("artifact")]
    (artifact,) = [each for each in artifacts if each.type == "model"]
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {path.name for path in trained_checkpoint(trained.folder).iterdir()}
