"""Sealed folders: a seal names files of its folder, and clearing away stays inside."""

import json
import os

import pytest
import torch

from minippo.gpt import GPT
from minippo.runs import checkpoints
from tests.hostile import POSIX, SIZE, refusal, reseal


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../model.safetensors",
        "/etc/hostname",
        "a/b",
        "a\\b",
        "a\0b",
        "a" * 5000,
        "\ud800",
        "no",
    ],
)
def test_a_seal_names_files_of_its_folder(name, run):
    path = run.path / "checkpoints/sft"
    reseal(path)
    run.whole_checkpoint("sft")
    seal = json.loads((path / "sha256.json").read_bytes())
    (path / "sha256.json").write_text(json.dumps(seal | {name: "0"}))
    refusal(run.whole_checkpoint, "sft")
    (path / "sha256.json").write_text(json.dumps(dict(list(seal.items())[1:])))
    refusal(run.whole_checkpoint, "sft", names="does not seal")


@POSIX
def test_what_is_cleared_away_lies_in_the_folder(run, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "thesis.txt").write_text("all of it")
    (outside / ".a.tmp").write_text("not ours")
    for link in (".x.tmp", "figures", "checkpoints/.y.tmp", "checkpoints/update-0000001"):
        (run.path / link).symlink_to(outside)
    (run.path / ".z.tmp/deep/er").mkdir(parents=True)
    (run.path / ".z.tmp/out").symlink_to(outside)
    for update in (3, 4):
        run.save_state(update, {"x": torch.zeros(1)}, {})
    run.remove_leftovers()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "thesis.txt": "all of it",
        ".a.tmp": "not ours",
    }
    assert sorted(os.listdir(run.path)) == [
        "checkpoints",
        "config.json",
        "figures",
        "metrics.jsonl",
    ]
    assert sorted(os.listdir(run.path / "checkpoints")) == [
        "reward_model",
        "sft",
        "update-0000003",
        "update-0000004",
    ]
    checkpoints.remove(run.path / "figures")
    assert (outside / "thesis.txt").exists() and not os.path.lexists(run.path / "figures")


@POSIX
def test_a_link_in_the_place_of_a_checkpoint_is_replaced_and_not_followed(run, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "thesis.txt").write_text("all of it")
    (run.path / "checkpoints/policy").symlink_to(outside)
    run.save_checkpoint(
        "policy",
        GPT(SIZE),
        model_config=vars(SIZE),
        tokenizer={"kind": "byte"},
        info={"seconds": {}},
    )
    assert (
        os.listdir(outside) == ["thesis.txt"] and not (run.path / "checkpoints/policy").is_symlink()
    )
    assert run.whole_checkpoint("policy") and sorted(os.listdir(run.path / "checkpoints")) == [
        "policy",
        "reward_model",
        "sft",
        "update-0000002",
    ]


def test_a_linked_folder_has_the_same_files_and_is_sealed(run, tmp_path_factory, monkeypatch):
    source, target = run.path / "checkpoints/sft", tmp_path_factory.mktemp("other")
    checkpoints.link_folder(source, target / "linked")
    monkeypatch.setattr(os, "link", lambda *_: os.stat("not there"))
    checkpoints.link_folder(source, target / "copied")
    for name in ("linked", "copied"):
        checkpoints.check_seal(target / name, "model.safetensors")
        assert {path.name: path.read_bytes() for path in (target / name).iterdir()} == {
            path.name: path.read_bytes() for path in source.iterdir()
        }
    model = "model.safetensors"
    assert os.path.samefile(source / model, target / "linked" / model)
    assert not os.path.samefile(source / model, target / "copied" / model)
