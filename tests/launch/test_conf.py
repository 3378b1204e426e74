"""Every yaml of conf/ composes, fits the signature of its target, and makes it."""

import inspect
from collections.abc import Iterator

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig

from graph.knowledge_graph import KnowledgeGraph
from launch.build import build_run, build_trainer
from launch.parts import instantiate
from tests.configs import CONF, composed
from trainer.loop import Trainer
from trainer.runtime import Runtime

FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
COMMANDS = [file for file in FILES if "/" not in file]
GRAPHS = [file.removeprefix("graph/") for file in FILES if file.startswith("graph/")]

# How a file comes into a run, where it is not `group=name`.
CHOICES = {"baseline": "baseline@generator.baseline={}", "pretrain": "generator={}"}
# What some files ask of other options.
NEEDS = {
    "baseline/leave_one_out": ["generator.num_negatives=2"],
    "generator/from_file": [f"generator.file={CONF.parent / 'tests' / 'generator' / 'negatives.tsv'}"],
    "placement/metis": ["placement.num_parts=4"],
    # The default model limits the length of its rows.
    **{f"encoder/{name}": ["discriminator.max_norm=null"] for name in ("attention", "compgcn", "linear", "rgcn")},
}
# What the code adds to a yaml's options when it calls the target.
ADDED = {"embedding.model.KGEModel": {"site", "name", "encoder"}}


# A graph that an experiment asks for is swapped for one that needs no file.
SMALL = ("graph=synthetic", "graph.num_people=100", "launch.device=cpu")


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ADVKGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ADVKGE_DATA", raising=False)


def compose_with(file: str) -> DictConfig:
    """The config of a run, or of a command, that the file is a part of."""
    if file in COMMANDS:
        return composed(file)
    group, name = file.rsplit("/", 1)
    small = () if group == "graph" else SMALL
    return composed("train", CHOICES.get(group, group + "={}").format(name), *NEEDS.get(file, []), *small)


def targets(node: object) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            yield from targets(node[key])


@pytest.mark.parametrize("file", FILES)
def test_options_fit_the_signature(file):
    config = compose_with(file)
    if file not in COMMANDS:
        assert list(targets(config))
    for node in targets(config):
        parameters = inspect.signature(get_object(node._target_)).parameters
        options = {str(key) for key in node if not str(key).startswith("_")}
        assert options <= set(parameters), f"{node._target_} takes no {options - set(parameters)}"
        # The yaml is the one home of a value: every keyword option is in it, and none has a default in Python.
        keywords = {name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        missing = keywords - options - ADDED.get(node._target_, set())
        assert not missing, f"{file}: {node._target_} needs {missing}"


@pytest.mark.parametrize("file", [file for file in FILES if file not in COMMANDS and not file.startswith("graph/")])
def test_makes_a_run(file, tmp_path):
    if file == "placement/metis":
        pytest.importorskip("dgl")
    config = compose_with(file)
    if config.generator._target_.endswith("KBGANSampler"):
        config.generator.pool_size = 8
    runtime = Runtime.start(device="cpu", timeout_seconds=1.0)
    trainer = build_trainer(build_run(config, runtime), tmp_path)
    assert isinstance(trainer, Trainer)
    assert trainer.stages[-1].epochs == config.trainer.epochs


@pytest.mark.parametrize("name", GRAPHS)
def test_makes_a_graph(name, tmp_path):
    config = composed("train", f"graph={name}").graph
    if name == "synthetic":
        config.num_people = 100
    else:
        folder = tmp_path / name
        folder.mkdir()
        for split, line in (("train", "a\tr\tb\n"), ("valid", "b\tr\ta\n"), ("test", "a\tr\ta\n")):
            (folder / f"{split}.txt").write_text(line)
        config["path" if name == "folder" else "root"] = str(folder if name == "folder" else tmp_path)
    graph = instantiate(config)
    assert isinstance(graph, KnowledgeGraph)
    assert len(graph.train)


def test_graphs_of_the_literature_are_looked_for_where_the_variable_says(monkeypatch):
    monkeypatch.setenv("ADVKGE_DATA", "/somewhere")
    assert composed("train", "graph=umls").graph.root == "/somewhere"
    monkeypatch.delenv("ADVKGE_DATA")
    assert composed("train", "graph=umls").graph.root == "data"


def test_pretraining_follows_the_last_stage():
    assert composed("train", "trainer.epochs=7").pretrain.generator.epochs == 2
