"""A file is written whole or not at all, whatever fails and whenever."""

import json
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save

from minippo.runs import files


def test_bytes_text_and_line_ends_come_back_as_written(tmp_path):
    files.write_bytes_whole(tmp_path / "b", b"\x00\xff\r\n")
    files.write_text_whole(tmp_path / "t", "é\r\n漢\n")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "t").read_bytes() == "é\r\n漢\n".encode()
    assert sorted(os.listdir(tmp_path)) == ["b", "t"]


def test_an_old_file_is_replaced(tmp_path):
    files.write_text_whole(tmp_path / "t", "old and longer")
    files.write_text_whole(tmp_path / "t", "new")
    assert (tmp_path / "t").read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    (tmp_path / "plainly").write_text("x")
    files.write_text_whole(tmp_path / "whole", "x")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plainly").stat().st_mode


@pytest.mark.parametrize("failing", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing, error):
    files.write_text_whole(tmp_path / "t", "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(files.os, failing, fail)
    with pytest.raises(type(error)):
        files.write_text_whole(tmp_path / "t", "new")
    assert (tmp_path / "t").read_text() == "old"
    assert os.listdir(tmp_path) == ["t"]


def test_the_content_is_on_the_disk_before_the_name_points_at_it(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    files.write_bytes_whole(tmp_path / "b", b"x")
    assert calls == ["fsync", "replace"]


def test_a_missing_folder_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_text_whole(tmp_path / "nowhere" / "t", "x")


def test_json_writes_null_for_what_is_not_finite_and_lists_for_arrays(tmp_path):
    files.write_json(
        tmp_path / "j",
        {
            "a": math.nan,
            "b": [math.inf, -math.inf, 1.5],
            "c": np.array([1.0, np.nan]),
            "d": torch.tensor(2),
            "e": np.float32(0.5),
            "f": (True, None),
            "g": tmp_path,
        },
    )
    text = (tmp_path / "j").read_text()
    assert json.loads(text) == {
        "a": None,
        "b": [None, None, 1.5],
        "c": [1.0, None],
        "d": 2,
        "e": 0.5,
        "f": [True, None],
        "g": str(tmp_path),
    }
    assert text.startswith('{\n  "a": null') and text.endswith("}\n")


def test_jsonl_is_one_line_per_row_whatever_the_text_holds(tmp_path):
    rows = [{"text": "a\nb\u2028c\x85d\udc80"}, {"x": math.nan}]
    files.write_jsonl(tmp_path / "j", rows)
    lines = (tmp_path / "j").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [rows[0], {"x": None}]


def test_what_json_does_not_know_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "j", {"x": object()})
    assert os.listdir(tmp_path) == []


def test_tensors_are_written_as_their_library_writes_them(tmp_path):
    """One by one, in place; the library makes all bytes at once. A tied tensor is written once."""
    kinds = [getattr(torch, name.removeprefix("torch.")) for name in files.KINDS]
    tensors = {f"{9 - i}": torch.arange(3).to(kind) for i, kind in enumerate(kinds)}
    tensors |= {"a": torch.tensor(1.5), "é": torch.ones(2, 3).T, "none": torch.zeros(0, 4)}
    tensors["b"] = torch.arange(6.0)[2:4]  # a part of another
    whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    wanted = save(whole, metadata={"same_as": '{"tied": "a"}'})
    tensors["tied"] = tensors["a"]
    assert files.tensors_to_bytes(tensors) == wanted
    files.write_tensors_whole(tmp_path / "t", tensors)
    assert (tmp_path / "t").read_bytes() == wanted and os.listdir(tmp_path) == ["t"]


def test_what_is_written_is_no_copy():
    tensor = torch.zeros(4)
    _, numbers = files.tensor_parts({"a": tensor})
    tensor[1] = 1.0
    assert bytes(numbers) == tensor.numpy().tobytes()
