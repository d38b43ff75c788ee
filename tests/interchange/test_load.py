"""Models of a finished run are the models that the run saved; and the profile of an update reads
such a run."""

import shutil

import pytest
import torch

from minippo.commands.profile_update import main as profile_main
from minippo.commands.train import main
from minippo.errors import InputError
from minippo.interchange.load import load_critic, load_gpt, load_reward_model, load_tokenizer
from tests.tiny_runs import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("load") / "run"
    assert main([*TINY, "--quiet", "--out", str(path)]) == 0
    return path


def test_the_models_are_those_that_were_saved(folder):
    policy, sft = load_gpt(folder, "policy"), load_gpt(folder, "sft")
    tokens = torch.tensor([[1, 3, 4]])
    assert (policy(tokens) - sft(tokens)).abs().max() > 0  # PPO has moved it
    reward_model, critic = load_reward_model(folder), load_critic(folder)
    assert reward_model.scale != 1.0 and critic(tokens).shape == (1, 3)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("a baker in rome")) == "a baker in rome"
    assert tokenizer.vocab_size == policy.config.vocab_size


def test_what_is_not_there_or_of_another_kind_is_refused_by_its_path(folder, tmp_path):
    with pytest.raises(InputError, match="checkpoints/policy/config.json: No such file"):
        load_gpt(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    shutil.copytree(folder / "checkpoints/sft", tmp_path / "checkpoints/critic")
    with pytest.raises(InputError, match="checkpoints/critic: not a checkpoint of this stage"):
        load_critic(tmp_path)


def test_the_profile_gives_shares_of_parts_and_of_kinds_of_operations(folder, capsys):
    assert profile_main(["--run", str(folder), "--updates", "2"]) == 0
    out = capsys.readouterr().out
    for row in (
        "rollout: sampling and rescoring",
        "update: forward, backward, step",
        "matrix products and attention",
    ):
        assert row in out
    tables = out.split("kind of operation")
    for text in tables:
        assert (
            95
            <= sum(int(line.split("|")[2].split()[0]) for line in text.splitlines() if "%" in line)
            <= 105
        )


def test_the_profile_of_what_is_no_run_is_refused(tmp_path, capsys):
    assert profile_main(["--run", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path}/config.json: No such file or directory"
    )
