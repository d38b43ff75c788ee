"""The best of a group: who it is, and which step is taken."""

import pytest
import torch

from minippo.algorithms import REGISTRY, base
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.selection import best_of_the_group
from minippo.policy_gradient import policy_gradient_loss
from minippo.rollout import response_logits, response_logprobs
from tests.helpers import assert_close, f64, mask_of_lengths
from tests.worlds import ragged


@pytest.mark.parametrize(
    "scores, wanted",
    [
        ([1, 3, 2], [0, 1, 0]),
        ([3, 3, 2], [1 / 2, 1 / 2, 0]),  # equals share
        ([2, 2, 2], [0, 0, 0]),  # none is the best
        ([-1, -3, -2], [1, 0, 0]),
    ],
)
def test_the_best_of_a_group_by_hand(scores, wanted):
    mask = mask_of_lengths([1, 2, 1])
    rewards = torch.where(mask, 0.0, 7.0).to(torch.float64)  # what stands in the padding
    rewards[:, 0] = f64(scores)
    config = PPOConfig(samples_per_prompt=3)
    found = best_of_the_group(rewards, None, mask, config)
    assert_close(found[:, 0], f64(wanted))
    assert_close(found[1], torch.where(mask[1], f64(wanted)[1], 0.0))


def test_the_step_is_that_of_maximum_likelihood_on_the_chosen(monkeypatch):
    seen = []

    def watch(optimizers, loss, *_, **__):
        parameters = optimizers[0].param_groups[0]["params"]
        seen.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
        return 0.0

    monkeypatch.setattr(base, "take_step", watch)
    world = ragged(num_updates=1, num_ppo_epochs=1, num_mini_batches=1, kl_reward="none")
    (step,) = world.updates("rft")
    rollout = step.rollout
    weights = torch.zeros(8, 4)
    for row, scores in enumerate(rollout.scores.view(8, 4)):
        best = scores == scores.max()
        weights[row] = 0.0 if best.all() else best / best.sum()
    chosen = (weights.flatten() > 0).nonzero().flatten()
    assert 0 < len(chosen) < 32
    rows = rollout.rows(chosen)
    logprobs = response_logprobs(response_logits(world.policy, rows, 1.0), rows)
    mask = rows.response_mask
    loss = policy_gradient_loss(
        logprobs=logprobs,
        weights=torch.where(mask, weights.flatten()[chosen].unsqueeze(1), 0.0),
        response_mask=mask,
    )
    assert loss > 0  # a mean of -log pi, and not its opposite
    wanted = torch.autograd.grad(loss, list(world.policy.parameters()), materialize_grads=True)
    for found, gradient in zip(seen[0], wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_a_rollout_in_which_all_are_equal_teaches_nothing():
    world = ragged(num_updates=1, kl_reward="none")
    world.score_function = lambda tokens, mask: torch.ones(len(tokens))
    before = [p.clone() for p in world.policy.parameters()]
    (row,) = world.train("rft")
    assert row["loss/policy_avg"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, world.policy.parameters(), strict=True))


def test_it_has_no_kl_and_no_critic():
    record = REGISTRY["rft"]
    assert record.settings["kl_reward"] == "none" and "kl_reward" in record.ignores
    assert not record.has_critic and record.needs_scores
