"""A file that is not what was wanted is known by its first bytes."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile

import pytest

from minippo.runs.kinds import KINDS, LONGEST_START, known_kind

TEXT = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n' * 3


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", TEXT)
    return file.getvalue()


MADE = {
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "gzip": gzip.compress(TEXT, mtime=0),
    "bzip2": bz2.compress(TEXT),
    "with xz": lzma.compress(TEXT),
    "zip archive": zipped(),
    "Parquet": b"PAR1" + bytes(20),
    "Arrow": b"ARROW1" + bytes(20),
    "SQLite": b"SQLite format 3\0" + bytes(20),
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "GGUF": b"GGUF\x03",
    "PDF": b"%PDF-1.7\n",
    "UTF-16": TEXT.decode().encode("utf-16"),
    "pickle": pickle.dumps({"a": 1}),
    "web page": b"\n <!DOCTYPE html><html>",
}


@pytest.mark.parametrize("name", MADE)
def test_what_other_programs_write_is_called_by_its_name(name):
    assert name in known_kind(MADE[name])
    assert known_kind(MADE[name][:LONGEST_START]) == known_kind(MADE[name])


@pytest.mark.parametrize("data", [TEXT, b"", b"{", b"[1]", "é à".encode(), b"\xef\xbb\xbf{}"])
def test_of_texts_nothing_is_said(data):
    assert known_kind(data) is None


def test_a_safetensors_file_is_none_of_them():
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    assert known_kind(len(head).to_bytes(8, "little") + head + bytes(4)) is None


def test_every_kind_is_one_phrase():
    phrases = [what for _, what in KINDS]
    assert len(set(phrases)) == len(phrases)
    assert all(what.startswith("is ") and what.isprintable() for what in phrases)
