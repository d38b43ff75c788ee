"""Files to records: whatever they are packed in, and in a memory that is bounded."""

import csv
import gc
import gzip
import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minippo
from minippo.errors import InputError
from minippo.runs.stats import peak_memory_mib
from minippo.tasks.files import container
from minippo.tasks.files.container import MIB, Broken, array_items, open_records, unpacked
from minippo.tasks.files.read import read_folder
from minippo.tasks.files.schema import KNOWN
from tests.tasks.files.folders import PAIRS

ROWS = [dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS]
ROWS.append({"prompt": 'a, "b"\tc; d\n\ne', "chosen": "çığ\u2028", "rejected": "😀"})


def as_table(rows, delimiter):
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


PACKED = {
    "JSON lines": "\n".join(map(json.dumps, ROWS)),
    "a JSON array": json.dumps(ROWS),
    "a JSON array, indented": "\n " + json.dumps(ROWS, indent=2, ensure_ascii=False) + "\n",
    "CSV": as_table(ROWS, ","),
    "TSV": as_table(ROWS, "\t"),
    "CSV with semicolons": as_table(ROWS, ";"),
}


def records(path, data, name="preferences.jsonl", limit=MIB):
    (path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return open_records(str(path / name), name, limit=limit, known=KNOWN)


def refusal(path, data, **options):
    with pytest.raises(InputError) as caught:
        list(records(path, data, **options).rows)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 500
    return message


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", PACKED)
def test_the_same_rows_in_whatever_they_are_packed(kind, zipped, tmp_path):
    data = PACKED[kind].encode()
    found = records(tmp_path, gzip.compress(data) if zipped else data)
    assert found.kind == kind.removesuffix(", indented")
    assert [value for _, value in found.rows] == ROWS


def test_places_are_lines_where_there_are_lines(tmp_path):
    assert [number for number, _ in records(tmp_path, "\n" + PACKED["JSON lines"]).rows] == [
        2,
        3,
        4,
    ]
    table = "prompt,text\n\n" + 'a,"b\nc"\n' + "d,e\n"
    assert list(records(tmp_path, table).rows) == [
        (3, {"prompt": "a", "text": "b\nc"}),
        (5, {"prompt": "d", "text": "e"}),
    ]
    found = records(tmp_path, PACKED["a JSON array"])
    assert found.unit == "row" and [number for number, _ in found.rows] == [1, 2, 3]


def test_gzip_in_several_members_is_one_file(tmp_path):
    parts = [gzip.compress(line.encode() + b"\n") for line in PACKED["JSON lines"].split("\n")]
    assert [value for _, value in records(tmp_path, b"".join(parts)).rows] == ROWS


@pytest.mark.parametrize("window", [1, 2, 7, 64])
def test_an_array_is_read_in_windows_of_any_size(window, monkeypatch):
    monkeypatch.setattr(container, "WINDOW", window)
    values = [1.0, 12345.0, "", {}, [], ROWS[0], [[1.0, "]"], {"a": "}"}], True, None, -1e5]
    for indent in (None, 3):
        text = json.dumps(values, indent=indent)
        assert list(array_items(text, "a")) == list(enumerate(values, start=1))
    assert list(array_items(" [ ] \n", "a")) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2", "line 1: column 6: broken JSON (Expecting ',' or ']') at the end of the file"),
        ("[1,\n 2 3]", "line 2: column 4: broken JSON (Expecting ',' or ']') at '3]'"),
        ("[1,]", "line 1: column 4: broken JSON (Expecting ',' or ']') at ']'"),
        ('[{"a" 1}]', "line 1: column 7: broken JSON (Expecting ':' delimiter) at '1}]'"),
        ("[1] [2]", "line 1: column 5: broken JSON (Extra data) at '[2]'"),
        ("[" * 100_000, "row 1: the JSON is nested too deeply"),
    ],
)
def test_a_broken_array_is_refused_with_its_place(text, message):
    with pytest.raises(InputError) as caught:
        list(array_items(text, "a"))
    assert str(caught.value) == f"a, {message}"


def test_rows_that_are_broken_are_handed_on_and_the_next_is_read(tmp_path):
    rows = dict(records(tmp_path, "{}\n{\n" + "[" * 100_000 + '\n{"a": 1}').rows)
    assert rows[1] == {} and rows[4] == {"a": 1.0}
    assert isinstance(rows[2], Broken) and rows[3] == Broken("the JSON is nested too deeply")
    rows = dict(records(tmp_path, "prompt,text\na\nb,c\nd,e,f\n").rows)
    assert rows[2] == Broken("has 1 columns, the header has 2")
    assert rows[3] == {"prompt": "b", "text": "c"} and isinstance(rows[4], Broken)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"prompt,prompt\na,b\n", "line 1: two columns are called 'prompt'"),
        (b'prompt,text\na,"b\nc', "line 3: the table is broken (unexpected end of data)"),
        (b'prompt,text\n"a"b,c', "line 2: the table is broken (',' expected after '\"')"),
        (b"prompt," * 1001, "line 1: has 1002 columns, more than the 1000 that are read"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(data, message, tmp_path):
    assert refusal(tmp_path, data) == f"preferences.jsonl, {message}"


def test_the_ending_decides_only_where_the_header_says_nothing(tmp_path):
    for name, kind in (("a.csv", "CSV"), ("a.tsv.gz", "TSV"), ("a.jsonl", "JSON lines")):
        assert records(tmp_path, "x,y\n1,2\n", name=name).kind == kind
    for name in ("a.csv", "a.parquet", "a"):
        assert records(tmp_path, PACKED["JSON lines"], name=name).kind == "JSON lines"
        assert records(tmp_path, PACKED["TSV"], name=name).kind == "TSV"


def test_the_limit_holds_before_and_after_unpacking(tmp_path):
    assert "has 1048577 bytes, more than the 1048576" in refusal(tmp_path, b" " * (MIB + 1))
    assert "unpacks to more than the 1048576 bytes" in refusal(
        tmp_path, gzip.compress(b" " * (MIB + 1))
    )
    assert len(unpacked(gzip.compress(b" " * MIB), "a", MIB)) == MIB
    assert refusal(tmp_path, gzip.compress(b"")) == "preferences.jsonl: is empty once unpacked"
    assert "its gzip is damaged" in refusal(tmp_path, b"\x1f\x8bnonsense")
    twice = gzip.compress(gzip.compress(b"{}"))
    assert "is compressed with gzip; unpack it first" in refusal(tmp_path, twice)


def test_a_row_has_a_limit_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "LARGEST_RECORD", 50)
    monkeypatch.setattr(container, "WINDOW", 10)
    long = json.dumps({"prompt": "x" * 200})
    (_, broken), (_, good) = records(tmp_path, f"{long}\n" + '{"prompt": "y"}').rows
    assert broken == Broken("has more than the 50 characters that are read of a row")
    assert good == {"prompt": "y"}
    assert "in the 50 characters that are read of a row" in refusal(tmp_path, f"[{long}]")
    assert "the table is broken (field larger than field limit (50))" in refusal(
        tmp_path, "prompt\n" + "x" * 200
    )
    assert csv.field_size_limit() > 50  # the library has its own limit again


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('[{"a",:1}]\t;\n'), max_size=40))
def test_whatever_the_bytes_are_there_are_records_or_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    data = data if isinstance(data, bytes) else b"prompt" + data.encode()
    for packed in (data, gzip.compress(data)):
        try:
            list(records(folder, packed).rows)
        except InputError as error:
            assert len(str(error).splitlines()) == 1


# -- memory


def hungry():
    """(what, bytes) of files that would take gigabytes if they were believed."""
    yield "a gzip bomb", gzip.compress(b"x" * 100 * MIB)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = b"\0" * 16 * MIB
    bomb = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    yield "a gigabyte in a few megabytes", bomb
    lists = b"[" + b"[]," * (20 * MIB) + b"[]]"
    yield "an array of lists", lists
    yield "lists in one row", b"[" + lists + b"]"
    yield "lists in one line", b'{"prompt": ' + lists
    yield "a line of nothing else", b'{"prompt": "' + b"x" * 60 * MIB
    yield "a nesting", b"[" * 100_000
    yield "a nesting in a line", b'{"a":' * 100_000
    yield "a million columns", b"prompt," * 1_000_000 + b"\n" + b"x," * 1_000_000
    yield "a field of sixty million", b"prompt\n" + b"x" * 60_000_000
    yield "a quote that does not end", b'prompt\n"' + b"x\n" * 30_000_000
    yield "ten million rows", b"{}\n" * 10_000_000
    yield "sparse", b""


def measure_hungry(folder):
    """How far the most memory rises above what is held before, in MiB, for each refusal."""
    path = Path(folder, "preferences.jsonl")
    for what, data in hungry():
        path.write_bytes(data)
        if what == "sparse":
            os.truncate(path, 10 * 2**30)
        del data
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the most is counted anew
        held = peak_memory_mib()
        try:
            read_folder(folder)
        except InputError as error:
            grown = round(peak_memory_mib() - held)
            print(what, grown, str(error)[:200], sep="\t")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="Linux counts anew when asked"
)
def test_the_memory_of_a_refusal_is_bounded(tmp_path):
    code = (
        "from tests.tasks.files.test_container import measure_hungry; "
        f"measure_hungry({str(tmp_path)!r})"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(minippo.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    grown = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(grown) == 13, done.stderr
    assert max(int(line[1]) for line in grown) < 512, grown
