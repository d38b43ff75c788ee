"""What is read from a run's folder is refused in one line where it is not what it must be."""

import json

import pytest
import torch

from minippo.commands.flags import config_of_run
from minippo.interchange.load import load_gpt
from minippo.runs import read
from minippo.runs.files import tensors_to_bytes
from minippo.runs.folder import RunFolder, load_tensors
from tests.hostile import entry, refusal, safetensors_file

# -- safetensors


ONE = {"a": entry()}
BODY = b"\0" * 8
HEADS = (
    {  # what is wrong: (head, body, length)
        "no head": (b"", b"", 8),
        "shorter than it says": (ONE, b"", 400),
        "a length beyond all": (ONE, BODY, 2**63),
        "a long head": (
            b'{"a": ' + json.dumps(entry()).encode() + b"}" + b" " * read.LARGEST_HEADER,
            BODY,
            None,
        ),
        "overlapping": ({"a": entry(), "b": entry()}, BODY, None),
        "a hole": ({"a": entry(), "b": entry(place=(16, 24))}, BODY * 3, None),
        "bytes left over": (ONE, BODY * 2, None),
        "bytes missing": (ONE, BODY[:4], None),
        "another size": ({"a": entry((3,))}, BODY, None),
        "backwards": ({"a": entry(place=(8, 0))}, BODY, None),
        "negative": ({"a": entry((-2, -1))}, BODY, None),
        "a product beyond all": ({"a": entry((2**62, 4, 2))}, BODY, None),
        "a product that comes round to 0": ({"a": entry((2**63, 2), (0, 0))}, b"", None),
        "nothing, enormously": ({"a": entry((0, 2**63), (0, 0))}, b"", None),
        "no such kind": ({"a": entry(kind="X")}, BODY, None),
        "a kind that is not ours": ({"a": entry((1,), kind="C64")}, BODY, None),
        "not an object": (b"[1]", b"", None),
        "deep": (b'{"a":' * 10_000, b"", None),
        "not UTF-8": (b'{"\xff": 1}', b"", None),
    }
    | {
        f"same_as {text[:20]}": (ONE | {"__metadata__": {"same_as": text}}, BODY, None)
        for text in (
            "[1]",
            "3",
            '{"b": "c"}',
            '{"b": ["a"]}',
            '{"b": 1}',
            '{"a": "a"}',
            '{"b": "a", "c": "b"}',
            "[" * 9000,
            "9" * 5000,
            "{",
        )
    }
)


@pytest.mark.parametrize("wrong", HEADS)
def test_heads_that_are_refused(wrong, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_file(*HEADS[wrong]))
    refusal(load_tensors, path, names=path)


def test_heads_that_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_file(ONE | {"__metadata__": {"same_as": '{"b": "a"}'}}, BODY))
    assert {name: tensor.tolist() for name, tensor in load_tensors(path).items()} == {
        "a": [0, 0],
        "b": [0, 0],
    }
    assert read.declared_tensors(path) == {"a": ((2,), "F32")}
    names = [
        f"optimizer {half}.{i}.{name}"
        for half in range(2)
        for i in range(1204)
        for name in ("exp_avg", "exp_avg_sq", "step", "weight")
    ]
    path.write_bytes(tensors_to_bytes({name: torch.zeros(1) for name in names}))
    assert len(load_tensors(path)) == len(names)  # a state of a hundred layers


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"a"',
        b"\xff",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"[" * 30 + b"]" * 30 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b" " * (read.LARGEST_JSON + 1),
    ],
)
def test_json_that_is_refused(content, run):
    for name, reader in (
        ("config.json", run.read_config),
        ("config.json", lambda: config_of_run(run.path, {})),
        ("checkpoints/sft/config.json", lambda: load_gpt(run.path, "sft")),
        ("checkpoints/sft/sha256.json", lambda: run.whole_checkpoint("sft")),
    ):
        (run.path / name).write_bytes(content)
        refusal(reader, names=run.path / name)


def test_what_json_may_hold(run):
    (run.path / "x.json").write_text(
        '{"a": 1, "a": -2.5, "é\\ud800": [[{}], null, true, 1e300], "n": 18446744073709551615}'
    )
    assert read.read_json(run.path / "x.json") == {
        "a": -2.5,
        "é\ud800": [[{}], None, True, 1e300],
        "n": 2**64 - 1,
    }
    (run.path / "x.json").write_text('{"a": 0}' + " " * (read.LARGEST_JSON - 8))
    assert read.read_json(run.path / "x.json") == {"a": 0}


@pytest.mark.parametrize(
    "line, what",
    [
        (b"[1]", "wanted an object"),
        (b"{}", "field update"),
        (b'{"update": 0}', "field update"),
        (b'{"update": true}', "field update"),
        (b'{"update": 3.0}', "field update"),
        (b'{"update": 3, "x": [1]}', "field x"),
        (b'{"update": 3, "x": false}', "field x"),
        (b'{"update": NaN}', "not JSON"),
        (b"[" * 50_000, "nested"),
        (b" " * 70_000, "has more than"),
        (b"\xff", "not JSON"),
    ],
)
def test_rows_of_metrics_that_are_refused(line, what, run):
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b"\n" + line)  # a blank line is no harm
    assert what in refusal(RunFolder, run.path, names=f"{path}, line 4")
