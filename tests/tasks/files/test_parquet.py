"""Parquet: read where pyarrow is there, and one line where it is not."""

import sys

import pytest

from minippo.errors import InputError
from minippo.tasks.files import parquet
from minippo.tasks.files.container import MIB
from minippo.tasks.files.parquet import parquet_rows
from minippo.tasks.files.read import read_folder
from tests.tasks.files.folders import folder


def packed(columns, **options):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    file = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue().to_pybytes()


def rows(data, limit=MIB):
    return list(parquet_rows(data, "a", limit))


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = folder(tmp_path / "d", preferences_parquet=b"PAR1\x15\x04PAR1")
    with pytest.raises(InputError, match="needs the package pyarrow .*; docs/your-data.md$"):
        read_folder(path)


def test_columns_are_fields_and_lists_of_messages_are_read(tmp_path):
    chosen = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": a}] for a in "ab"]
    other = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}]] * 2
    data = packed({"chosen": chosen, "rejected": other, "system": ["s", None], "n": [1, 2]})
    found = read_folder(folder(tmp_path / "d", preferences_jsonl=data))
    assert found.preferences == [("s\n\nq", "a", "c"), ("q", "b", "c")]
    assert found.sources["preferences"][1].place == "row 2"


def test_many_rows_in_many_batches(monkeypatch):
    data = packed({"text": [f"row {i}" for i in range(100)]}, row_group_size=30)
    monkeypatch.setattr(parquet, "MOST_ROWS", 7)
    assert [row["text"] for _, row in rows(data)] == [f"row {i}" for i in range(100)]


def test_what_unpacks_to_too_much_is_refused():
    bomb = packed({"text": ["x" * MIB, "y"]}, compression="zstd")
    assert len(bomb) < MIB / 10
    again = packed({"text": ["x" * (MIB // 2)] * 1000})  # in the file only once
    assert len(again) < MIB
    for data in (bomb, again):
        with pytest.raises(InputError, match="^a: unpacks to more than the 1048576 bytes"):
            rows(data)
    with pytest.raises(InputError, match="^a: has 1001 columns"):
        rows(packed({f"c{i}": [1] for i in range(1001)}))


def test_a_damaged_file_is_one_line():
    data = packed({"text": ["x" * 100, "y"]})
    for damaged in (data[:-5], data[: len(data) // 2], b"PAR1" + b"\xff" * 100 + b"PAR1"):
        with pytest.raises(InputError, match="^a: is not a Parquet file that can be read"):
            rows(damaged)
