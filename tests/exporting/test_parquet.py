"""What format=parquet writes is read by pyarrow, as by other readers of Parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from exporting import parquet
from exporting import trained_model as blocks
from tests.trained import renamed, trained_model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_has_id_name_and_a_list_for_each_part(dtype, tmp_path, out, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 50 * 16)
    odd = ['a "quoted", name', "two\nlines", "na\u00efve"]
    run, trained = trained_model(tmp_path, "transd", f"dtype={dtype}")
    shapes = parquet.write(renamed(trained, odd), out)
    assert {path.name for path in out.iterdir()} == {"entity.parquet", "relation.parquet"}
    file = pyarrow.parquet.ParquetFile(out / "entity.parquet")
    assert file.num_row_groups == -(-run.graph.num_entities // 50)
    table = file.read()
    vector = pa.list_(pa.type_for_alias(dtype), 8)
    assert table.schema.names == ["id", "name", "entity", "entity_transfer"]
    assert table.schema.types == [pa.int64(), pa.string(), vector, vector]
    assert table["id"].to_pylist() == list(range(run.graph.num_entities))
    assert table["name"].to_pylist() == [*odd, *run.graph.entity_names[3:]]
    rows = run.discriminator.entity.gather_all(run.discriminator.entity.weight).numpy()
    both = np.concatenate([np.array(table[part].to_pylist(), dtype) for part in ("entity", "entity_transfer")], axis=1)
    assert np.array_equal(both, rows)

    relations = pyarrow.parquet.read_table(out / "relation.parquet")
    assert relations["name"].to_pylist() == list(run.graph.relation_names)
    found = np.array(relations["relation_transfer"].to_pylist(), dtype)
    assert np.array_equal(found, trained.relation_parts["relation_transfer"].numpy())
    assert shapes["entity.parquet"] == {part: [run.graph.num_entities, 8] for part in ("entity", "entity_transfer")}


def test_shared_parameters_lie_beside_the_tables(tmp_path, out):
    _, trained = trained_model(tmp_path, "tucker")
    shapes = parquet.write(trained, out)
    assert np.array_equal(np.load(out / "core.npy"), trained.scoring.core.detach().float().numpy())
    assert {path.name for path in out.iterdir()} == set(shapes)
