"""Gradient ascent with the exact mean of the sampled gradient: where a choice of reward leads when
there is no noise.

The reward of RLHF is the task's minus kl_coef times an estimate of the KL, per token and taken as
data. With k1 the fixed point is the optimal policy pi_ref exp(return / kl_coef) / Z. With k2 and
k3, whose values estimate the KL as well, it is not: their part of the gradient is that of something
else.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minippo.exact.oracle import (
    objective,
    optimal_policy,
    response_probabilities,
    sequence_kl,
    total_variation,
)
from minippo.exact.world import World
from minippo.policy_gradient import policy_gradient_loss
from minippo.reward_to_go import rewards_to_go


def expected_gradient_loss(world: World, policy: nn.Module, rewards: Tensor) -> Tensor:
    """A loss whose gradient is minus the mean, over responses of the policy, of the reward-to-go
    policy gradient."""
    logits = policy()
    probabilities = response_probabilities(world, logits).detach()
    returns_to_go = rewards_to_go(rewards=rewards, response_mask=world.response_mask, gamma=1.0)
    # the loss divides by the number of rows
    weights = len(probabilities) * probabilities.unsqueeze(1) * returns_to_go
    return policy_gradient_loss(
        logprobs=world.logprobs(logits), weights=weights, response_mask=world.response_mask
    )


def train_with_kl_in_reward(
    world: World,
    policy: nn.Module,
    *,
    kl_estimator: Callable[..., Tensor],
    kl_coef: float,
    steps: int,
    learning_rate: float,
    record_every: int = 100,
) -> list[dict[str, float]]:
    """Train the policy in place; returns [{"step", "objective", "optimality gap", "total
    variation", "kl", "largest logit"}].

    The reference is the policy as it comes. kl_estimator(logprobs=, ref_logprobs=) is one of
    minippo.kl. objective = E[return] - kl_coef KL(policy || reference); the gap and the total
    variation are to the best policy.
    """
    ref_logits = policy().detach().clone()
    ref_logprobs = world.logprobs(ref_logits)
    best_logits, best_objective = optimal_policy(world, ref_logits, kl_coef)
    optimizer = torch.optim.SGD(policy.parameters(), lr=learning_rate)
    records = []
    for step in range(steps + 1):
        with torch.no_grad():
            logits = policy()
            logprobs = world.logprobs(logits)
            if step % record_every == 0:
                kl = sequence_kl(world, logits, ref_logits).item()
                reached = objective(world, logits).item() - kl_coef * kl
                records.append(
                    {
                        "step": step,
                        "objective": reached,
                        "optimality gap": best_objective.item() - reached,
                        "total variation": total_variation(world, logits, best_logits).item(),
                        "kl": kl,
                        "largest logit": logits.abs().max().item(),
                    }
                )
        if step == steps:
            break
        penalty = kl_coef * kl_estimator(logprobs=logprobs, ref_logprobs=ref_logprobs)
        optimizer.zero_grad()
        expected_gradient_loss(world, policy, world.response_rewards - penalty).backward()
        optimizer.step()
    return records
