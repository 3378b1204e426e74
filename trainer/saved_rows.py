"""The entity rows of a trained model, read from its checkpoint a block at a time: they need not fit into memory.

Those that an encoder makes are the exception.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from embedding.model import KGEModel
from trainer.checkpoint_files import open_tensors
from trainer.player import load_trained_dense, row_files
from trainer.row_check import check_entities, check_finite, fitting


class SavedRows:
    """The rows of all entities in the order of ids, which need not be that of the checkpoint's files.

    It keeps 8 bytes for each entity. The files are mapped into memory: the system reads a page of them when a block
    needs it, and may drop it again at any time.

    Args:
        files: the names of the checkpoint's files with entity rows.
        key: the name of the rows in these files.
        like: a tensor of the type and width that the rows must have; it may be empty.
        count: the number of entities.
    Raises:
        InputError: an entity has no row or two, or the rows have another width or kind of number.
    """

    def __init__(self, checkpoint: Path, files: list[str], key: str, like: Float[Tensor, "_ E"], count: int) -> None:
        self._checkpoint, self._files, self._key, self._like = checkpoint, files, key, like
        check_entities(checkpoint, files, count)
        # The place of each entity's row if the rows of all files lay one after the other.
        self._place = torch.empty(count, dtype=torch.int64)
        first = 0
        for file in files:
            with open_tensors(checkpoint / file) as saved:
                entity = saved.get_tensor("entity")
                self._table(saved, len(entity))
            self._place[entity] = torch.arange(first, first + len(entity))
            first += len(entity)

    def blocks(self, size: int) -> Iterator[Float[Tensor, "n E"]]:
        """The rows, `size` entities at a time.

        Raises:
            InputError: a number is nan or infinite, or a file can't be read.
        """
        with ExitStack() as opened:
            tables: list[tuple[int, Tensor]] = []
            first = 0
            for file in self._files:
                saved = opened.enter_context(open_tensors(self._checkpoint / file))
                table = self._table(saved, saved.get_slice("entity").get_shape()[0])
                tables.append((first, table))
                first += len(table)
            for place in self._place.split(size):
                rows = self._like.new_empty((len(place), self._like.shape[1]))
                for first, table in tables:
                    mine = (place >= first) & (place < first + len(table))
                    found = table[place[mine] - first]
                    check_finite(self._checkpoint, self._key, found)
                    rows[mine] = found.to(rows.dtype)
                yield rows

    def _table(self, saved: Any, length: int) -> Float[Tensor, "n E"]:
        """The rows of a file. They are not read yet."""
        found = saved.get_tensor(self._key) if self._key in saved.keys() else None  # noqa: SIM118 (not a dict)
        return fitting(self._checkpoint, self._key, found, self._like, (length, self._like.shape[1]))


class EncodedRows:
    """The rows of all entities in the order of ids, as a model's encoder made them. They are in memory.

    Args:
        model: a whole model on one rank, encoded.
    """

    def __init__(self, model: KGEModel) -> None:
        self._rows = model.entity.gather_all(model.entity.weight)

    def blocks(self, size: int) -> Iterator[Float[Tensor, "n E"]]:
        """The rows, `size` entities at a time."""
        yield from self._rows.split(size)


TrainedRows = SavedRows | EncodedRows
"""The entity rows of a trained model, as scores see them."""


def open_trained(checkpoint: Path, name: str, model: KGEModel, num_entities: int) -> SavedRows:
    """Loads a model as it is used after training, except for its entity rows, and returns these, to be read later.

    Not collective. Call `Checkpointer.read_manifest` first, which checks the files.

    Args:
        name: the name of the model in the checkpoint, "discriminator" or "generator".
        model: a model of no entities; all else of it is filled in place.
        num_entities: how many entities the checkpoint must hold.
    Raises:
        InputError: as for `Checkpointer.load`.
    """
    place = load_trained_dense(checkpoint, name, model)
    return SavedRows(checkpoint, row_files(checkpoint), f"{place}/weight", model.entity.like, num_entities)
