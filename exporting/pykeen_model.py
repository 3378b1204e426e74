"""A folder as PyKEEN's pipeline saves one: trained_model.pkl and training_triples/."""

import errno
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from exporting.names import write_names
from exporting.pykeen_scores import Counterpart, counterpart, with_counterpart
from exporting.trained_model import TrainedModel
from graph.errors import InputError


def write(trained: TrainedModel, folder: Path) -> dict[str, Any]:
    """Writes the model, the train triples with all names, entities.tsv and relations.tsv; returns what files hold.

    PyKEEN's model and its triples are made in memory as a whole.

    Raises:
        InputError: PyKEEN is not installed, has no such score, or would read two names as one.
    """
    found = counterpart(trained.scoring)
    if found is None:
        raise InputError(
            f"format=pykeen: the scoring function must be one whose score PyKEEN has, {', '.join(with_counterpart())}, "
            f"got {type(trained.scoring).__name__}; use format=npy"
        )
    pykeen = _import_pykeen()
    triples = pykeen.triples.TriplesFactory(
        mapped_triples=trained.graph.train.long(),
        entity_to_id=_ids(trained.graph.entity_names),
        relation_to_id=_ids(trained.graph.relation_names),
        create_inverse_triples=trained.model.reciprocal,
    )
    triples.to_path_binary(folder / "training_triples")
    for what in ("entity", "relation"):
        _check_names(what, folder / "training_triples" / f"{what}_to_id.tsv.gz")
    _save(_model(trained, found, triples, pykeen), folder / "trained_model.pkl")
    write_names(trained, folder)
    return {
        "trained_model.pkl": f"ERModel of PyKEEN {pykeen.version.get_version()} with {found.interaction}Interaction",
        "training_triples": "TriplesFactory, for from_path_binary",
    }


def _import_pykeen() -> ModuleType:
    """Imports PyKEEN, which takes seconds, without the warnings of what it imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pykeen.models
            import pykeen.nn.modules
            import pykeen.triples
            import pykeen.version
    except ImportError as error:
        raise InputError(
            f"format=pykeen needs PyKEEN, which can't be imported: type pip install 'pykeen==1.11.1'; the import said: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return pykeen


def _save(model: Any, path: Path) -> None:
    """Writes the model; raises OSError if that is impossible, where torch raises RuntimeError.

    Into a file that Python has opened: to a full disk torch itself writes a small file without an error.
    """
    try:
        with path.open("wb") as file:
            torch.save(model, file)
    except RuntimeError as error:
        raise OSError(errno.EIO, f"torch.save failed, as on a full disk: {str(error).splitlines()[0]}") from error


def _ids(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _check_names(what: str, path: Path) -> None:
    """Raises InputError if PyKEEN, which reads the file of names as here, would get one label for two names."""
    import pandas as pd

    labels = pd.Series(pd.read_csv(path, sep="\t")["label"])
    same = labels[labels.duplicated()].tolist()
    if same:
        raise InputError(
            f"format=pykeen: PyKEEN must be able to tell {what} names apart, but reads two as {same[0]}: it takes "
            "names such as 01 for numbers, and NA or null for missing values; use another format"
        )


def _model(trained: TrainedModel, found: Counterpart, triples: Any, pykeen: ModuleType) -> Any:
    interaction = getattr(pykeen.nn.modules, f"{found.interaction}Interaction")(**found.options).to(trained.dtype)
    entity_row, relation_row = torch.zeros((1, trained.scoring.entity_width)), trained.relation_rows[:1]
    model = pykeen.models.ERModel(
        triples_factory=triples,
        interaction=interaction,
        entity_representations=_embeddings(found.entity(entity_row.to(trained.dtype)), triples.num_entities, pykeen),
        relation_representations=_embeddings(found.relation(relation_row), triples.num_relations, pykeen),
        random_seed=0,  # nothing of it stays random; but without a seed, PyKEEN warns that results can't be repeated
    )
    # Only now, because a new model resets its parameters.
    interaction.load_state_dict({**dict(interaction.named_buffers()), **found.state})
    with torch.no_grad():
        for first, rows in trained.entity_blocks():
            _fill(model.entity_representations, first, found.entity(rows))
        _fill(model.relation_representations, 0, found.relation(_in_pykeens_order(trained)))
    return model.eval()


def _embeddings(like: list[Tensor], count: int, pykeen: ModuleType) -> list[Any]:
    """Embeddings of zeros, for rows of these shapes and types."""
    return [
        pykeen.nn.Embedding(max_id=count, shape=each.shape[1:], dtype=each.dtype, initializer=torch.nn.init.zeros_)
        for each in like
    ]


def _in_pykeens_order(trained: TrainedModel) -> Float[Tensor, "R_ R"]:
    """Relation rows with the inverse of each relation, if any, right behind it."""
    rows = trained.relation_rows
    return torch.stack(rows.chunk(2), dim=1).flatten(0, 1) if trained.model.reciprocal else rows


def _fill(embeddings: Iterable[Any], first: int, values: list[Tensor]) -> None:
    for embedding, value in zip(embeddings, values, strict=True):
        (weight,) = embedding.parameters()  # [count, numbers]; a complex number is two numbers
        numbers = torch.view_as_real(value) if value.is_complex() else value
        weight[first : first + len(value)] = numbers.reshape(len(value), weight.shape[1])
