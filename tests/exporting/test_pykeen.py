"""PyKEEN loads what format=pykeen writes as what its pipeline saved, and predicts what we do."""

import pickletools
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from exporting import pykeen_model
from exporting.pykeen_scores import with_counterpart
from graph.errors import InputError
from launch.built_run import Run
from tests.configs import WITH_VECTORS
from tests.trained import renamed, saved, trained_model
from tests.worlds import batch_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what PyKEEN imports
    from pykeen.triples import TriplesFactory

NORMED = "discriminator.scoring.batch_norm=true"
PLAIN = ("discriminator.scoring.batch_norm=false", "discriminator.reciprocal=false")
UNDROPPED = ("discriminator.scoring.feature_map_dropout=0.0", "discriminator.scoring.projection_dropout=0.0")
CASES: dict[str, tuple[str, ...]] = {
    "TransE L1": ("transe", "discriminator.scoring.norm=1"),
    "TransE L2": ("transe", "discriminator.scoring.norm=2"),
    "TransH": ("transh",),
    "TransR": ("transr",),
    "DistMult": ("distmult",),
    "ComplEx": ("complex",),
    "SimplE": ("simple",),
    "RESCAL": ("rescal",),
    "RotatE": ("rotate",),
    "QuatE": ("quate",),
    "TuckER": ("tucker", *PLAIN),
    "TuckER, batch norm": ("tucker", NORMED, "discriminator.reciprocal=true"),
    "ConvE": ("conve", *PLAIN, *UNDROPPED),
    "ConvE, batch norm": ("conve", NORMED, "discriminator.reciprocal=true"),
    "PairRE": ("pairre",),
    "DistMult, reciprocal": ("distmult", "discriminator.reciprocal=true"),
    "ComplEx, reciprocal": ("complex", "discriminator.reciprocal=true"),
    "RotatE, reciprocal": ("rotate", "discriminator.reciprocal=true"),
}


def loaded(folder: Path) -> tuple[Any, TriplesFactory]:
    """As PyKEEN's users load what its pipeline saved."""
    model = torch.load(folder / "trained_model.pkl", weights_only=False)
    return model, TriplesFactory.from_path_binary(folder / "training_triples")


@torch.no_grad()
def shake(run: Run) -> None:
    """Gives parameters and running statistics that training would change values of their own."""
    generator = torch.Generator().manual_seed(1)
    for tensor in run.discriminator.dense_tensors().values():
        tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "float64") for name in CASES), ("ComplEx, reciprocal", "float32"), ("ConvE, batch norm", "float32")],
)
def test_predictions_are_ours(name: str, dtype: str, tmp_path: Path, out: Path):
    discriminator, *options = CASES[name]
    run, _ = trained_model(tmp_path, discriminator, *options, f"dtype={dtype}")
    shake(run)
    pykeen_model.write(saved(run, tmp_path), out)
    model, triples = loaded(out)
    assert triples.num_entities == run.graph.num_entities
    facts, every = run.graph.test[:20], torch.arange(run.graph.num_entities)[None]
    with torch.no_grad():
        tails, heads = model.predict_t(facts[:, :2]), model.predict_h(facts[:, 1:])
        of_facts = model.predict_hrt(facts)[:, 0]
        our_tails = run.discriminator.score_candidates(batch_of(facts, heads=0), every)
        our_heads = run.discriminator.score_candidates(batch_of(facts, heads=len(facts)), every)
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(tails, our_tails, **near)
    torch.testing.assert_close(heads, our_heads, **near)
    torch.testing.assert_close(of_facts, our_tails.gather(1, facts[:, 2:])[:, 0], **near)
    assert our_heads.std() > 1e-3


def test_every_scoring_function_is_written_or_refused_by_name(tmp_path: Path, out: Path):
    written = {name.lower() for name in with_counterpart()}
    assert {options[0] for options in CASES.values()} == written
    refused = set(WITH_VECTORS) - written
    assert refused == {"transd", "hake"}
    for name in refused:
        _, trained = trained_model(tmp_path, name)
        with pytest.raises(InputError) as error:
            pykeen_model.write(trained, out)
        assert f"{', '.join(with_counterpart())}, got {type(trained.scoring).__name__}; use" in str(error.value)
    assert list(out.iterdir()) == []


def test_the_model_is_loaded_without_this_project(tmp_path: Path, out: Path):
    _, trained = trained_model(tmp_path, "simple")
    pykeen_model.write(trained, out)
    with zipfile.ZipFile(out / "trained_model.pkl") as file:
        (pickled,) = (file.read(name) for name in file.namelist() if name.endswith("data.pkl"))
    named = {str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}
    assert "pykeen.nn.modules CPInteraction" in named
    assert {name.split()[0].split(".")[0] for name in named} <= {"pykeen", "torch", "collections", "__builtin__"}


def test_names_are_pykeens_labels(tmp_path: Path, out: Path):
    odd = ['a "quoted", name', "tab\there", "two\nlines", "na\u00efve", "NA", "01"]
    run, trained = trained_model(tmp_path, "transe")
    pykeen_model.write(renamed(trained, odd), out)
    _, triples = loaded(out)
    labels = [triples.entity_id_to_label[number] for number in range(run.graph.num_entities)]
    # pandas, by which PyKEEN reads names, takes NA for a missing value.
    assert [*labels[:4], labels[5], *labels[6:]] == [*odd[:4], odd[5], *run.graph.entity_names[6:]]
    assert triples.relation_to_id == {name: number for number, name in enumerate(run.graph.relation_names)}


def test_names_that_pykeen_reads_as_one_are_refused(tmp_path: Path, out: Path):
    _, trained = trained_model(tmp_path, "transe")
    with pytest.raises(InputError, match="format=pykeen: PyKEEN must be able to tell entity names apart, but reads"):
        pykeen_model.write(renamed(trained, ["NA", "null"]), out)


@pytest.mark.parametrize("dim", [8, 2048])
def test_a_full_disk_is_an_error_of_the_system(dim: int, tmp_path: Path, out: Path):
    _, trained = trained_model(tmp_path, "transe", f"discriminator.dim={dim}")
    (out / "trained_model.pkl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device|torch\.save failed"):
        pykeen_model.write(trained, out)


def test_says_how_to_install_pykeen(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    _, trained = trained_model(tmp_path, "transe")
    monkeypatch.setitem(sys.modules, "pykeen.models", None)
    with pytest.raises(InputError, match="format=pykeen needs PyKEEN, which can't be imported: type pip install"):
        pykeen_model.write(trained, out)
    assert list(out.iterdir()) == []
