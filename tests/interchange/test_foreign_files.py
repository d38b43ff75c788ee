"""Files that anybody may have written: what JSON allows is read, tensors may be in several files,
and what is no model is called by its name."""

import gzip
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from minippo.errors import InputError
from minippo.interchange.foreign_files import (
    check_folder,
    load_foreign_tensors,
    load_weights,
    plain_name,
    read_foreign_json,
)

TENSORS = {
    "transformer.wte.weight": torch.arange(6.0).view(3, 2),
    "transformer.h.0.ln_1.bias": torch.ones(2),
    "transformer.h.1.ln_1.bias": torch.zeros(2),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 548105171\n"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# JSON


@pytest.mark.parametrize(
    "written, value",
    [
        ("1000000000000000019884624838656", 1000000000000000019884624838656),
        ("-" + "9" * 40, -(10**40 - 1)),
        ("1" + "0" * 5000, float("inf")),  # more digits than Python makes a whole number of
        ("1e999", float("inf")),
        ("-Infinity", float("-inf")),
        ("1e-5", 1e-5),
        ("0.1234567890123456789012345678901234567890", 0.12345678901234568),
        ('"\\ud800"', "\ud800"),
    ],
)
def test_what_json_allows_is_read(tmp_path, written, value):
    path = write(tmp_path / "x.json", f'{{"model_max_length": {written}, "NaN": NaN}}')
    found = read_foreign_json(path)
    assert found["model_max_length"] == value and found["NaN"] != found["NaN"]


def test_a_byte_order_mark_and_thirty_levels_are_read_and_a_hundred_thousand_are_not(tmp_path):
    deep = '{"a": ' * 30 + "1" + "}" * 30
    assert read_foreign_json(write(tmp_path / "x.json", b"\xef\xbb\xbf" + deep.encode()))["a"]
    for levels in (200, 10**5):
        deep = '{"a": ' * levels + "1" + "}" * levels
        assert "nested too deeply" in refusal(read_foreign_json, write(tmp_path / "x.json", deep))


@pytest.mark.parametrize(
    "content, what",
    [
        (POINTER, "is a git-lfs pointer and not the file itself; fetch it with: git lfs pull"),
        (gzip.compress(b"{}", mtime=0), "is compressed with gzip"),
        ("<!DOCTYPE html>\n<title>Sign in</title>", "is a web page, so its download went wrong"),
        ("[1, 2]", "wanted an object"),
        ('{"a": 1', "Expecting"),
        (b"\xff", "can't decode byte 0xff"),
    ],
)
def test_what_is_no_json_is_called_by_its_name(tmp_path, content, what):
    path = write(tmp_path / "config.json", content)
    assert re.match(
        f"{re.escape(str(path))}: .*{re.escape(what)}", refusal(read_foreign_json, path)
    )


# folders


def test_what_is_no_folder_of_a_model_says_what_it_is_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "gpt2: there is no such folder, and nothing is downloaded" in refusal(
        check_folder, tmp_path / "gpt2"
    )
    for file, what in (
        ("file/model.safetensors/x", None),
        ("lora/adapter_config.json", "holds a LoRA adapter and not the model; merge the two"),
        ("run/checkpoints/sft/config.json", "is from a run of minippo; to have its model in such"),
        ("cache/snapshots/12ab/config.json", f"give {tmp_path / 'cache/snapshots/12ab'}"),
        ("trained/checkpoint-500/config.json", f"give {tmp_path / 'trained/checkpoint-500'}"),
    ):
        write(tmp_path / file, "{}")
        folder = tmp_path / file.split("/")[0]
        if what is None:
            assert "is a file; give the folder" in refusal(check_folder, tmp_path / file)
        else:
            line = refusal(check_folder, folder)
            assert line.startswith(f"{folder}: ") and what in line
    write(tmp_path / "run/checkpoints/sft/info.json", "{}")
    assert f"export --run {tmp_path / 'run'} --to" in refusal(
        check_folder, tmp_path / "run/checkpoints/sft"
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "checkpoints/x", "checkpoint-5/x"])
def test_a_model_may_have_other_things_beside_it(tmp_path, name):
    write(tmp_path / name, "{}"), write(tmp_path / "config.json", "{}")
    save_file(TENSORS, tmp_path / "model.safetensors")
    check_folder(tmp_path)


@pytest.mark.parametrize(
    "names, what",
    [
        ([], "there is no model.safetensors in it"),
        (["pytorch_model.bin"], "pytorch_model.bin is a pickle, and nothing is unpickled here"),
        (["model.ckpt", "optimizer.pt"], "model.ckpt is a pickle, and nothing is unpickled here"),
        (["tf_model.h5", "x.gguf"], "no model.safetensors in it (found tf_model.h5, x.gguf)"),
        (["model.fp16.safetensors"], "(found model.fp16.safetensors); save the weights so"),
    ],
)
def test_weights_of_another_kind_are_named(tmp_path, names, what):
    for name in names:
        write(tmp_path / name, "x")
    assert what in refusal(load_weights, tmp_path)


# tensors


@pytest.mark.parametrize(
    "name, plain",
    [
        ("transformer.h.0.ln_1.bias", "h.0.ln_1.bias"),
        ("h.0.ln_1.bias", "h.0.ln_1.bias"),
        ("_orig_mod.transformer.wte.weight", "wte.weight"),
        ("module.transformer.wte.weight", "wte.weight"),
        ("module._orig_mod.transformer.h.1.attn.c_attn.bias", "h.1.attn.c_attn.bias"),
        ("transformer.h.1._orig_mod.attn.c_attn.bias", "h.1.attn.c_attn.bias"),
        ("_fsdp_wrapped_module.lm_head.weight", "lm_head.weight"),
    ],
)
def test_what_wrappers_put_into_a_name_is_taken_off(name, plain):
    assert plain_name(name) == plain


def test_a_tensor_under_two_names_is_refused(tmp_path):
    save_file(TENSORS | {"module.wte.weight": torch.ones(3, 2)}, tmp_path / "model.safetensors")
    assert "wte.weight: is there under two names" in refusal(load_weights, tmp_path)


def test_a_file_that_is_no_tensors_is_called_by_its_name(tmp_path):
    path = write(tmp_path / "model.safetensors", POINTER)
    assert refusal(load_foreign_tensors, path).startswith(f"{path}: is a git-lfs pointer")
    path = write(tmp_path / "model.safetensors", b"\x80\x04\x95")
    assert "is a pickle, and nothing is unpickled here" in refusal(load_foreign_tensors, path)


@pytest.mark.parametrize("length", [0x8B1F, 0x0280, 0xFEFF])
def test_the_length_that_a_good_file_begins_with_may_look_like_another_kind(tmp_path, length):
    head = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = length.to_bytes(8, "little") + head.ljust(length) + b"\0" * 4
    path = write(tmp_path / "model.safetensors", content)
    assert load_foreign_tensors(path)["a"].tolist() == [0.0]


# several files


def write_shards(folder, places, index=None):
    """The tensors in the files that `places` names, and an index that says so, or another."""
    for file in set(places.values()):
        held = {name: TENSORS[name] for name, place in places.items() if place == file}
        save_file(held, folder / file)
    content = {"metadata": {"total_size": 1e400}, "weight_map": places if index is None else index}
    write(folder / "model.safetensors.index.json", json.dumps(content))


NAMES = list(TENSORS)
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PLACES = {NAMES[0]: FIRST, NAMES[1]: FIRST, NAMES[2]: SECOND}


def test_several_files_are_read_as_one(tmp_path):
    write_shards(tmp_path, PLACES)
    path, tensors = load_weights(tmp_path)
    assert path.name == "model.safetensors.index.json" and len(tensors) == 3
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[plain_name(name)], tensor)


def test_a_link_into_a_download_cache_is_followed(tmp_path):
    (tmp_path / "blobs").mkdir(), (tmp_path / "snapshot").mkdir()
    write_shards(tmp_path / "blobs", PLACES)
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert len(load_weights(tmp_path / "snapshot")[1]) == 3


@pytest.mark.parametrize(
    "file", ["../out.safetensors", "/tmp/out.safetensors", "a/b.safetensors", "x.bin", "", 7, None]
)
def test_an_index_names_files_of_its_own_folder_only(tmp_path, file):
    (tmp_path / "in").mkdir()
    save_file(TENSORS, tmp_path / "out.safetensors")
    write_shards(tmp_path / "in", PLACES, index=PLACES | {NAMES[2]: file})
    assert "wanted names of safetensors files in this folder, got" in refusal(
        load_weights, tmp_path / "in"
    )


@pytest.mark.parametrize("index", [[], {}, "x", 3])
def test_an_index_that_is_none_is_refused(tmp_path, index):
    write_shards(tmp_path, PLACES, index=index)
    assert "index.json: weight_map: wanted an object" in refusal(load_weights, tmp_path)


def test_files_that_are_not_those_of_the_index_are_refused(tmp_path):
    write_shards(tmp_path, PLACES, index=PLACES | {NAMES[1]: SECOND})
    assert f"{SECOND}: {NAMES[1]}: is not in it" in refusal(load_weights, tmp_path)
    save_file({NAMES[1]: TENSORS[NAMES[1]], NAMES[2]: TENSORS[NAMES[2]]}, tmp_path / SECOND)
    assert f"{SECOND}: {NAMES[1]}: is in another file as well" in refusal(load_weights, tmp_path)
    (tmp_path / SECOND).unlink()
    assert f"{SECOND}: there is no such file" in refusal(load_weights, tmp_path)
    write(tmp_path / SECOND, POINTER)
    assert f"{SECOND}: is a git-lfs pointer" in refusal(load_weights, tmp_path)
