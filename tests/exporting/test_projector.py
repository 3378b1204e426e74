"""TensorBoard's projector shows what format=projector writes."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from exporting import projector
from tests.trained import renamed, trained_model


@pytest.fixture
def asked(out) -> Any:
    """Asks the plugin as `tensorboard --logdir OUT` does."""
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

    no_runs = SimpleNamespace(list_runs=lambda *_, **__: [])
    apps = ProjectorPlugin(SimpleNamespace(data_provider=no_runs, logdir=str(out))).get_plugin_apps()

    def get(route: str, **query: str) -> bytes:
        answer = Client(apps[route]).get("/", query_string=query)
        assert answer.status_code == 200, answer.data
        return answer.data

    return get


def test_the_projector_shows_entities_and_relations(tmp_path, out, asked):
    odd = ["a\tb", "two\nlines", 'a "quoted", name', "na\u00efve"]
    run, trained = trained_model(tmp_path, "transd", "discriminator.reciprocal=true")
    projector.write(renamed(trained, odd), out)
    assert json.loads(asked("/runs")) == ["."]
    shown = {each["tensorName"]: each for each in json.loads(asked("/info", run="."))["embeddings"]}
    assert list(shown) == ["entity", "entity_transfer", "relation", "relation_transfer"]
    table = run.discriminator.entity
    rows = table.gather_all(table.weight).numpy()
    names = ["a b", "two lines", *odd[2:], *run.graph.entity_names[4:]]
    for part, expected in (("entity", rows[:, :8]), ("entity_transfer", rows[:, 8:])):
        assert shown[part]["tensorShape"] == list(expected.shape)
        tensor = np.frombuffer(asked("/tensor", run=".", name=part), np.float32)
        assert np.array_equal(tensor.reshape(expected.shape), expected)
        assert asked("/metadata", run=".", name=part).decode().split("\n") == [*names, ""]
    tensor = np.frombuffer(asked("/tensor", run=".", name="relation"), np.float32)
    assert np.array_equal(tensor.reshape(-1, 8), trained.relation_parts["relation"].numpy())
    assert asked("/metadata", run=".", name="relation").decode().split() == trained.relation_names
