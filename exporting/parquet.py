"""Parquet tables: entity.parquet and relation.parquet, with the columns id, name, and one for each part of a row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from torch import Tensor

from exporting.npy import write_shared
from exporting.trained_model import TrainedModel, split_rows


def write(trained: TrainedModel, folder: Path) -> dict[str, Any]:
    """Writes both tables and the shared parameters; returns shapes by file, of a table by column."""
    entities, relations = trained.graph.entity_names, trained.relation_names
    relation_rows = [(0, trained.relation_rows)]
    tables = {
        "entity.parquet": (entities, trained.entity_parts, trained.entity_blocks()),
        "relation.parquet": (relations, trained.scoring.relation_parts, relation_rows),
    }
    for file, table in tables.items():
        _write_table(folder / file, *table, number=str(trained.dtype).removeprefix("torch."))
    shapes = {
        file: {part: [len(names), width] for part, width in parts.items()} for file, (names, parts, _) in tables.items()
    }
    return {**shapes, **write_shared(trained, folder)}


def _write_table(
    path: Path,
    names: Sequence[str],
    parts: Mapping[str, int],
    blocks: Iterable[tuple[int, Tensor]],
    *,
    number: str,
) -> None:
    """Writes a row group for each block.

    Args:
        blocks: pairs (id of the first row, rows).
        number: the type of numbers, "float32" or "float64".
    """
    vectors = [(part, pa.list_(pa.type_for_alias(number), width)) for part, width in parts.items()]
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), *vectors])
    # Numbers of vectors hardly ever repeat, so a dictionary of them would only take time.
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for first, rows in blocks:
            end = first + len(rows)
            columns = [pa.array(range(first, end), pa.int64()), pa.array(names[first:end], pa.string())]
            for part, width in zip(split_rows(rows, parts).values(), parts.values(), strict=True):
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(part.flatten().numpy()), width))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
