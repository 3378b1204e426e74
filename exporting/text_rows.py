"""Rows as lines of text, in which each number reads back as exactly the same number."""

import io

import pyarrow as pa
import pyarrow.csv
from jaxtyping import Float
from torch import Tensor


def text_lines(rows: Float[Tensor, "n D"], separator: str) -> list[bytes]:
    """A line for each row, without its line feed. pyarrow is tens of times faster than Python at this."""
    columns = [pa.array(column) for column in rows.T.contiguous().numpy()]
    batch = pa.RecordBatch.from_arrays(columns, names=[str(number) for number in range(len(columns))])
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=separator)
    text = io.BytesIO()
    pyarrow.csv.write_csv(batch, text, options)
    return text.getvalue().split(b"\n")[:-1]
