"""Models of a finished run are the models that the run saved."""

import shutil

import pytest
import torch

from minippo.errors import InputError
from minippo.interchange.load import load_critic, load_gpt, load_reward_model, load_tokenizer


def test_the_models_are_those_that_were_saved(finished):
    policy, sft = load_gpt(finished, "policy"), load_gpt(finished, "sft")
    tokens = torch.tensor([[1, 3, 4]])
    assert (policy(tokens) - sft(tokens)).abs().max() > 0  # PPO has moved it
    reward_model, critic = load_reward_model(finished), load_critic(finished)
    assert reward_model.scale != 1.0 and critic(tokens).shape == (1, 3)
    tokenizer = load_tokenizer(finished)
    assert tokenizer.decode(tokenizer.encode("a baker in rome")) == "a baker in rome"
    assert tokenizer.vocab_size == policy.config.vocab_size


def test_what_is_not_there_or_of_another_kind_is_refused_by_its_path(finished, tmp_path):
    with pytest.raises(InputError, match="checkpoints/policy/config.json: No such file"):
        load_gpt(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    shutil.copytree(finished / "checkpoints/sft", tmp_path / "checkpoints/critic")
    with pytest.raises(InputError, match="checkpoints/critic: not a checkpoint of this stage"):
        load_critic(tmp_path)
