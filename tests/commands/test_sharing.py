"""A run that begins with the stages of another ends as it would have alone."""

import json
import os
import shutil

import pytest

from minippo.commands.config import resolve
from minippo.commands.flags import parse_arguments
from minippo.commands.sharing import share_stages, stages_to_share
from minippo.commands.train import main
from minippo.runs.folder import RunFolder
from tests.tiny_runs import STAGES, TINY, read_json, read_rows, run, timeless

BEFORE_THE_POLICY = ["pretrain", "sft", "reward_model"]
COSTS = ("peak_memory_mib", "seconds_in_matmul_loops", "seconds_of_writing")


def share(out, others, *flags):
    return share_stages(parse_arguments([*TINY, *flags]).config, out, others)


def finish(out):
    assert main(["--resume", "--out", str(out), "--quiet"]) == 0
    return out


def content(folder):
    """Everything of a run that does not tell the time, and the name of every file."""
    summary = timeless(read_json(folder / "summary.json"))
    models = [path.read_bytes() for path in sorted(folder.glob("checkpoints/*/model.safetensors"))]
    seals = [read_json(folder / f"checkpoints/{stage}/seal.json") for stage in STAGES]
    return (
        {name: value for name, value in summary.items() if name not in COSTS},
        timeless(read_rows(folder / "metrics.jsonl")),
        (folder / "samples.jsonl").read_bytes(),
        read_json(folder / "config.json"),
        [*models, *seals],
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    )


def test_the_stages_before_the_policy_can_be_shared():
    assert stages_to_share(resolve({})) == BEFORE_THE_POLICY
    assert stages_to_share(resolve({"reward": "rule"})) == ["pretrain", "sft"]


def test_a_run_that_shares_ends_with_the_bits_of_one_that_does_not(finished, tmp_path):
    alone = run(tmp_path / "alone", "--quiet", "--kl_coef", "0.4")
    out = tmp_path / "shared"
    assert share(out, [finished], "--kl_coef", "0.4") == BEFORE_THE_POLICY
    assert content(finish(out)) == content(alone)
    model = "checkpoints/sft/model.safetensors"
    assert os.path.samefile(finished / model, out / model)


@pytest.mark.parametrize(
    "flags, shared",
    [
        (["--reward_epochs", "2"], ["pretrain", "sft"]),
        (["--preference_prompts", "9"], ["pretrain", "sft"]),
        (["--temperature", "0.9"], ["pretrain", "sft"]),
        (["--sft_steps", "3"], ["pretrain"]),
        (["--pretrain_steps", "4"], []),
        (["--seed", "1"], []),
        (["--threads", "2"], []),  # the last bits may differ
        (["--algorithm", "pg"], BEFORE_THE_POLICY),
        (["--eval_prompts", "7"], BEFORE_THE_POLICY),
    ],
)
def test_what_a_setting_touches_is_not_shared(flags, shared, finished, tmp_path):
    assert share(tmp_path / "run", [finished], *flags) == shared
    assert (tmp_path / "run").exists() == bool(shared)


def test_stages_come_from_whichever_run_has_them(finished, tmp_path):
    partly = shutil.copytree(finished, tmp_path / "partly")
    shutil.rmtree(partly / "checkpoints/reward_model")
    assert share(tmp_path / "one", [partly]) == ["pretrain", "sft"]
    assert share(tmp_path / "two", [partly, finished]) == BEFORE_THE_POLICY
    # a run that was stopped gets what it lacks, once
    assert share(tmp_path / "one", [partly, finished]) == ["reward_model"]
    assert share(tmp_path / "one", [partly, finished]) == []


def test_what_is_damaged_or_edited_is_not_shared(finished, tmp_path):
    edited = shutil.copytree(finished, tmp_path / "edited")
    config = read_json(edited / "config.json")
    (edited / "config.json").write_text(json.dumps(config | {"run": config["run"] | {"seed": 7}}))
    assert share(tmp_path / "run", [edited, tmp_path / "nothing"]) == []
    damaged = shutil.copytree(finished, tmp_path / "damaged")
    model = damaged / "checkpoints/sft/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert share(tmp_path / "run", [damaged]) == ["pretrain"]


def test_a_kill_between_configuration_and_stages_costs_nothing_but_time(
    finished, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "take_checkpoint", killed)
        share(tmp_path / "run", [finished])
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json"]
    assert share(tmp_path / "run", [finished]) == BEFORE_THE_POLICY
    assert content(finish(tmp_path / "run")) == content(finished)
