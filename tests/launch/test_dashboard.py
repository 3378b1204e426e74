import json
import re
from pathlib import Path

import pytest
import wandb

from launch import dashboard
from reporting.dashboard import PANELS

# wandb-workspaces uses parts of pydantic that will go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROOT = Path(__file__).parents[2]


def plots(spec: str) -> dict[str, list[str]]:
    """The metrics of each line plot in a workspace, by its title."""
    found = {}

    def walk(node):
        if isinstance(node, dict):
            config = node.get("config", {})
            if isinstance(config, dict) and "chartTitle" in config:
                found[config["chartTitle"]] = config["metrics"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(spec))
    return found


@pytest.mark.slow
def test_a_dashboard_has_a_panel_for_each_part_of_a_run(command, tmp_path):
    out = tmp_path / "dashboard.json"
    outcome = command(dashboard, "entity=me", "project=films", f"out={out}")
    assert (outcome.code, outcome.errors) == (0, "")
    spec = json.loads(out.read_text())
    assert (spec["entity"], spec["project"]) == ("me", "films")
    expected = {title: list(metrics) for section in PANELS.values() for title, metrics in section.items()}
    assert plots(out.read_text()) == expected


def test_its_metrics_are_those_that_runs_log():
    code = "\n".join(path.read_text() for room in ("trainer", "generator") for path in (ROOT / room).rglob("*.py"))
    for metric in {name for section in PANELS.values() for names in section.values() for name in names}:
        if metric.startswith(("valid", "pretrain_generator/", "usage/")):
            continue  # put together from a group, a side and a metric
        assert re.search(rf'"{metric}"', code), metric


def test_without_an_owner_it_is_one_line(command, monkeypatch):
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    outcome = command(dashboard)
    assert outcome.code == 1
    assert outcome.errors == "error: entity must be your user name or team in wandb, as in entity=ME, it is not given\n"


@pytest.mark.slow
def test_without_an_account_it_is_one_line(command, monkeypatch, tmp_path):
    wandb.teardown()  # it reads its variables once a process
    monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "")
    monkeypatch.delenv("WANDB_X_GRAPHQL_RETRY_MAX")  # set by the command; this undoes it
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    outcome = command(dashboard, "entity=me")
    assert outcome.code == 1
    said = outcome.errors.splitlines()[-1]
    assert said.startswith("error: wandb can't save the dashboard: ")
    assert "connection refused" in said
