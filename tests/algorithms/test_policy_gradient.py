"""Stages 1 to 4 in the trainer: which step is taken, and with which weights."""

import dataclasses

import pytest
import torch

from minippo.algorithms import REGISTRY
from minippo.algorithms import policy_gradient as module
from minippo.algorithms.base import PPOConfig
from minippo.policy_gradient import policy_gradient_loss
from minippo.rollout import response_logits, response_logprobs
from minippo.stages.credit import estimate_advantages
from tests.helpers import assert_close
from tests.worlds import ragged, weights_of

STAGES_1_TO_4 = ("pg", "rtg", "baseline", "gae")
WITHOUT_CRITIC = ("pg", "rtg")


# -- stages 1 to 4


@pytest.mark.parametrize("algorithm", STAGES_1_TO_4)
def test_the_step_is_along_the_policy_gradient_with_these_weights(algorithm, monkeypatch):
    seen = []
    monkeypatch.setattr(
        module,
        "take_step",
        lambda optimizers, loss, *_, **__: (
            seen.append(
                torch.autograd.grad(
                    loss, optimizers[0].param_groups[0]["params"], materialize_grads=True
                )
            )
            or 0.0
        ),
    )
    world = ragged(num_updates=1)
    (step,) = world.updates(algorithm)
    rollout = step.rollout
    _, weights, _ = estimate_advantages(rollout, world.config, algorithm)
    logprobs = response_logprobs(response_logits(world.policy, rollout, 1.0), rollout)
    loss = policy_gradient_loss(
        logprobs=logprobs, weights=weights, response_mask=rollout.response_mask
    )
    wanted = torch.autograd.grad(loss, list(world.policy.parameters()), materialize_grads=True)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], wanted, strict=True))
    assert len(seen) == (
        1
        if algorithm in WITHOUT_CRITIC
        else 1 + world.config.value_epochs * world.config.num_mini_batches
    )


def test_the_weights_of_each_stage_reduce_to_those_of_the_one_before():
    (step,) = ragged(num_updates=1, kl_coef=0.3, lam=1.0).updates()
    rollout = step.rollout
    config = PPOConfig(whiten_advantages=False, kl_coef=0.3, lam=1.0)
    without_critic = dataclasses.replace(rollout, old_values=None)
    rewards, whole, targets = estimate_advantages(without_critic, config, "pg")
    _, to_go, _ = estimate_advantages(without_critic, config, "rtg")
    _, with_baseline, monte_carlo_targets = estimate_advantages(rollout, config, "baseline")
    _, gae, gae_targets = estimate_advantages(rollout, config, "gae")
    mask = rollout.response_mask
    assert targets is None and rollout.old_values[mask].abs().min() > 0
    assert_close(whole[:, 0], rewards.sum(dim=1))
    assert_close(to_go[:, 0], whole[:, 0])
    assert_close(with_baseline, torch.where(mask, to_go - rollout.old_values, 0.0))
    assert_close(gae, with_baseline)
    assert_close(monte_carlo_targets, to_go)
    assert_close(gae_targets, to_go)
    assert_close(estimate_advantages(rollout, config, "trpo")[1], gae)


@pytest.mark.parametrize("algorithm", REGISTRY)
def test_the_critic_is_trained_where_there_is_one(algorithm):
    world = ragged()
    before = weights_of(world.critic)
    world.train(algorithm)
    assert torch.equal(before, weights_of(world.critic)) == (not REGISTRY[algorithm].has_critic)


def test_more_passes_of_the_critic_leave_the_policys_first_step_as_it_was():
    worlds = [ragged(num_updates=1, value_epochs=epochs) for epochs in (1, 6)]
    for world in worlds:
        world.train("gae")
    assert torch.equal(*(weights_of(world.policy) for world in worlds))
    assert not torch.equal(*(weights_of(world.critic) for world in worlds))
