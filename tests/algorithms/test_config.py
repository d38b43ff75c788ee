"""Contradictions are refused with the reason, and defaults are the right ones."""

import re

import pytest

from minippo.algorithms.config import READ_WITH, PPOConfig, contradictions
from minippo.relatives.kl_losses import KL_LOSSES, KL_REWARDS

LOSS = {"kl_loss": "k2_response", "kl_reward": "none", "whiten_advantages": False}


def test_the_defaults_contradict_nothing():
    assert not any(wrong for wrong, _, _ in contradictions(PPOConfig()))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kl_loss": "k2_response"}, "kl_loss: the KL is in the reward too .* --kl_reward none"),
        (LOSS | {"whiten_advantages": True}, "kl_loss: whitening .* --no-whiten_advantages"),
        (LOSS | {"kl_loss": "k1"}, "kl_loss: k1 as a loss is broken: the mean of its gradient"),
        ({"kl_reward": "k3"}, "kl_reward: k3 in the reward is broken: .* use k1"),
        ({"kl_reward": "none", "kl_controller": "proportional"}, "kl_controller: there is no KL"),
        ({"batch_size": 1, "num_mini_batches": 1}, "whiten_advantages: a batch of one response"),
        (
            {"batch_size": 4, "num_mini_batches": 4, "whiten_over": "minibatch"},
            "whiten_advantages: a batch of one response",
        ),
        ({"critic": "shared", "critic_warmup": 2}, "critic_warmup: with --critic shared"),
        ({"batch_size": 2, "num_mini_batches": 3}, "num_mini_batches: wanted at most batch_size 2"),
    ],
)
def test_contradictions_are_refused(settings, line):
    with pytest.raises(ValueError, match=line):
        PPOConfig(**settings)


def test_allow_broken_allows_what_is_broken_and_nothing_else():
    for name in KL_LOSSES:
        PPOConfig(kl_loss=name, allow_broken=True)
    for name in KL_REWARDS:
        PPOConfig(kl_reward=name, allow_broken=True)
    with pytest.raises(ValueError, match="critic_warmup"):
        PPOConfig(critic="shared", critic_warmup=1, allow_broken=True)


def test_what_is_right_is_allowed():
    for name, form in KL_LOSSES.items():
        if form.why_not is None:
            assert PPOConfig(**LOSS | {"kl_loss": name}).is_priced()
        else:
            with pytest.raises(ValueError, match=re.escape(form.why_not)):
                PPOConfig(**LOSS | {"kl_loss": name})
    assert not PPOConfig(kl_reward="none").is_priced()


def test_settings_that_depend_on_others_exist():
    for name, (other, values) in READ_WITH.items():
        assert hasattr(PPOConfig(), name)
        for value in values:
            PPOConfig(**{other: value})
