"""Parquet, with the package pyarrow, which nothing else needs."""

from collections.abc import Iterator
from typing import Any

from minippo.runs.read import first_words
from minippo.runs.text import printable
from minippo.tasks.files.messages import fault

MOST_COLUMNS = 1000
MOST_ROWS = 1024  # read at a time


def parquet_rows(data: bytes, name: str, limit: int) -> Iterator[tuple[int, Any]]:
    """(number, object) of each row. The size that the file's own tables declare is looked at first;
    no more rows are read at a time than would fit if each had the largest value there is."""
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        what = "is a Parquet file, which needs the package pyarrow (pip install pyarrow)"
        raise fault(name, what=f"{what}, or write it as JSON lines") from None
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        table = file.metadata
        if table.num_columns > MOST_COLUMNS:
            what = f"has {table.num_columns} columns, more than the {MOST_COLUMNS} that are read"
            raise fault(name, what=f"{what}")
        sizes = [table.row_group(i).total_byte_size for i in range(table.num_row_groups)]
        if sum(sizes) > limit or min(sizes, default=0) < 0:
            raise fault(name, what=f"unpacks to more than the {limit} bytes that are read")
        at_a_time = max(1, min(MOST_ROWS, 4 * limit // max(sizes, default=1)))
        yield from rows_of(file.iter_batches(batch_size=at_a_time), name, limit)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        what = f"is not a Parquet file that can be read ({printable(first_words(error))})"
        raise fault(name, what=what) from None


def rows_of(batches: Any, name: str, limit: int) -> Iterator[tuple[int, Any]]:
    """The rows of the batches; the texts together are as long as the limit at most."""
    number = total = 0
    for batch in batches:
        total += batch.nbytes
        if total > limit:
            raise fault(name, what=f"unpacks to more than the {limit} bytes that are read")
        for row in batch.to_pylist():
            number += 1
            yield number, row
