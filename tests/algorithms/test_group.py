"""Groups: what a response is worth, which step is taken, and which loss each record minimises."""

import dataclasses

import pytest
import torch

from minippo.algorithms import REGISTRY, base, group
from minippo.algorithms.config import PPOConfig
from minippo.kl import kl_k3
from minippo.relatives.ratios import (
    asymmetric_clipped_surrogate_loss,
    cispo_loss,
    gspo_surrogate_loss,
    sequence_surrogate_loss,
)
from minippo.relatives.reductions import constant_mean, sequence_mean, token_mean
from minippo.rollout import response_logits, response_logprobs
from minippo.stages.credit import estimate_advantages
from tests.helpers import assert_close, f64, mask_of_lengths
from tests.worlds import ragged

RELATIVES = ("rloo", "grpo", "dr_grpo", "gspo", "cispo", "dapo")
MASK = mask_of_lengths([2, 1, 3, 1])
# two groups of two; all that is paid: 1 and 3, then 5 and 5
REWARDS = f64([[0.5, 0.5, 9], [3, 9, 9], [1, 1, 3], [5, 9, 9]])
CONFIG = PPOConfig(samples_per_prompt=2, response_length=3)


def first(weights):
    """The number of each response, once it is seen that all its tokens have it."""
    assert torch.equal(weights != 0, MASK & (weights[:, :1] != 0))
    assert (weights == torch.where(MASK, weights[:, :1], 0.0)).all()
    return weights[:, 0].tolist()


@pytest.mark.parametrize(
    "weigh, wanted",
    [
        (group.leave_one_out, [-2.0, 2.0, 0.0, 0.0]),
        (group.centred, [-1.0, 1.0, 0.0, 0.0]),
        (group.standardised, [-1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_a_response_is_worth_what_it_was_paid_beside_the_others(weigh, wanted):
    assert first(weigh(REWARDS, None, MASK, CONFIG)) == wanted


def test_the_deviation_may_be_that_of_one_response_fewer():
    config = dataclasses.replace(CONFIG, std_correction=1)
    found = first(group.standardised(REWARDS, None, MASK, config))
    assert_close(found, [-(0.5**0.5), 0.5**0.5, 0.0, 0.0])  # the deviation is sqrt 2, not 1


def test_the_penalty_for_length_is_paid_before_the_group_is_looked_at():
    # up to 1 token free, then 1/2 per token: lengths 2, 1, 3, 1 pay 0.5, 0, 1, 0
    config = dataclasses.replace(CONFIG, overlong_buffer=2)
    found = first(group.standardised_with_penalty(REWARDS, None, MASK, config))
    assert found == [-1.0, 1.0, -1.0, 1.0]
    for buffer, length in ((0, 3), (None, 4)):  # a fifth of 4 is none
        config = dataclasses.replace(CONFIG, overlong_buffer=buffer, response_length=length)
        found = first(group.standardised_with_penalty(REWARDS, None, MASK, config))
        assert found == [-1.0, 1.0, 0.0, 0.0]


# -- the steps


def losses_of(algorithm, config):
    """(logprobs, old_logprobs, advantages [B,T], ref_logprobs, mask) -> the loss that the record
    is known by, from the functions of minippo.relatives alone."""
    ranges = {"cliprange_low": config.cliprange_low, "cliprange_high": config.cliprange_high}
    one = {"cliprange_low": config.cliprange, "cliprange_high": config.cliprange}

    def loss(logprobs, old_logprobs, advantages, ref_logprobs, mask):
        about = {"logprobs": logprobs, "old_logprobs": old_logprobs, "response_mask": mask}
        ratio = torch.exp(logprobs - old_logprobs)
        plain = {"values": ratio * advantages, "response_mask": mask}  # no clip acts yet
        if algorithm == "rloo":
            rows = advantages[:, 0]
            return sequence_surrogate_loss(**about, advantages=rows, cliprange=config.cliprange)
        if algorithm == "grpo":
            k3 = kl_k3(logprobs=logprobs, ref_logprobs=ref_logprobs)
            k3 = sequence_mean(values=k3, response_mask=mask)
            return config.kl_coef * k3 - sequence_mean(**plain)
        if algorithm == "dr_grpo":
            return -constant_mean(**plain, length=config.response_length)
        if algorithm == "gspo":
            return gspo_surrogate_loss(**about, advantages=advantages[:, 0], **ranges)
        if algorithm == "cispo":
            return cispo_loss(**about, advantages=advantages, ratio_max=config.ratio_max)
        assert_close(
            asymmetric_clipped_surrogate_loss(**about, advantages=advantages, **one),
            -token_mean(**plain),
        )
        return asymmetric_clipped_surrogate_loss(**about, advantages=advantages, **ranges)

    return loss


@pytest.mark.parametrize("algorithm", RELATIVES)
def test_the_first_step_is_along_the_gradient_of_the_loss_that_it_is_known_by(
    algorithm, monkeypatch
):
    seen = []

    def watch(optimizers, loss, *_, **__):
        parameters = optimizers[0].param_groups[0]["params"]
        seen.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
        return 0.0

    monkeypatch.setattr(base, "take_step", watch)
    own = {k: v for k, v in REGISTRY[algorithm].settings.items() if k != "whiten_advantages"}
    world = ragged(num_updates=1, num_ppo_epochs=1, num_mini_batches=1, kl_coef=0.3, **own)
    # the policy has left the reference
    for parameter in world.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    (step,) = world.updates(algorithm)
    rollout, config = step.rollout, world.config
    _, advantages, targets = estimate_advantages(rollout, config, algorithm)
    assert targets is None and advantages.abs().max() > 0
    logprobs = response_logprobs(response_logits(world.policy, rollout, 1.0), rollout)
    loss = losses_of(algorithm, config)(
        logprobs, rollout.old_logprobs, advantages, rollout.ref_logprobs, rollout.response_mask
    )
    wanted = torch.autograd.grad(loss, list(world.policy.parameters()), materialize_grads=True)
    assert len(seen) == 1
    for found, gradient in zip(seen[0], wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
    assert max(gradient.abs().max() for gradient in wanted) > 1e-4
    assert step.row["loss/policy_avg"] == pytest.approx(
        loss.item() - step.row.get("loss/kl_avg", 0.0), abs=1e-5
    )


@pytest.mark.parametrize("algorithm", RELATIVES)
def test_the_score_of_the_others_lowers_and_ones_own_raises(algorithm):
    """A better response becomes likelier: the sign."""
    world = ragged(num_updates=1, num_ppo_epochs=1, num_mini_batches=1, learning_rate=1e-3)
    (step,) = world.updates(algorithm)
    rollout = step.rollout
    _, advantages, _ = estimate_advantages(rollout, world.config, algorithm)
    after = response_logprobs(response_logits(world.policy, rollout, 1.0), rollout).detach()
    moved = (after - rollout.old_logprobs).sum(dim=1)
    assert (moved * advantages[:, 0]).sum() > 0


def test_minibatches_and_passes_are_those_of_ppo(monkeypatch):
    steps = []
    monkeypatch.setattr(base, "take_step", lambda *_, **__: steps.append(1) or 0.0)
    ragged(num_updates=1, num_ppo_epochs=3, num_mini_batches=2).train("grpo")
    assert len(steps) == 3 * 2


@pytest.mark.parametrize("algorithm", RELATIVES)
def test_the_ratio_is_to_the_policy_that_sampled(algorithm):
    """It is 1 before the first step and not afterwards."""
    row = ragged(num_updates=1, num_ppo_epochs=2).train(algorithm)[0]
    assert row["val/ratio_max_deviation_first"] < 1e-5
    assert row["val/ratio_var"] > 1e-4 and row["policy/approxkl_avg"] > 1e-4


def test_the_kl_is_where_each_record_has_it():
    """In the reward it changes the advantages; in the loss it is a part of its own."""
    for algorithm, where in dict.fromkeys(RELATIVES, None).items():
        own = REGISTRY[algorithm].settings
        where = (own["kl_reward"], own["kl_loss"])
        wanted = {"rloo": ("k1", "none"), "grpo": ("none", "k3")}
        assert where == wanted.get(algorithm, ("none", "none"))
        row = ragged(num_updates=1, **own).train(algorithm)[0]
        assert ("loss/kl_avg" in row) == (algorithm == "grpo")


def test_dapo_logs_what_it_drew():
    row = ragged(num_updates=1).train("dapo")[0]
    assert row["val/draws"] >= 1 and 0 < row["val/groups_that_differ"] <= 1
    assert row["val/batch_rows"] == 32
