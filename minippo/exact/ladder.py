"""The stages of the derivation as estimators of grad J, each with its exact bias and variance.

The world has one prompt, three tokens (one is EOS) and up to four steps: 31 responses. Its policy
is a table of random logits. Three kinds of reward:

    dense         every token is paid by itself
    outcome-only  a score on the last token, as in RLHF without its KL penalty
    cancelling    the first token is paid, and the last one pays it back: every return is 0

All numbers are drawn once, normal with mean 1 and standard deviation 1.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minippo.baseline import (
    baseline_advantages,
    batch_mean_baseline,
    leave_one_out_baseline,
    optimal_constant_baseline,
)
from minippo.exact.estimators import Batch, advantage_errors, bias_and_variance, gradient_samples
from minippo.exact.oracle import exact_gradient, reach_probabilities, values_and_action_values
from minippo.exact.world import EOS, Reward, TabularPolicy, World
from minippo.gae import gae_advantages
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.ppo import clipped_surrogate_loss
from minippo.reward_to_go import rewards_to_go
from minippo.trpo import surrogate_loss

Weights = Callable[[Batch], Tensor]  # what each token is worth, [B,T]
Loss = Callable[[Batch], Tensor]

RESPONSE_LENGTH = 4
LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
WRONG_BY = 1.0  # standard deviation of what is added to the values of the wrong critic


def reward_functions(seed: int) -> dict[str, Reward]:
    """{kind: reward(prompt, tokens)}: the same numbers for the same seed, wherever a response
    is in a list."""

    def number(*key: object) -> float:
        return random.Random(f"{seed} {key}").gauss(1, 1)

    def is_last(tokens: tuple[int, ...]) -> bool:
        return tokens[-1] == EOS or len(tokens) == RESPONSE_LENGTH

    return {
        "dense": lambda prompt, tokens: number(prompt, tokens),
        "outcome-only": lambda prompt, tokens: number(prompt, tokens) if is_last(tokens) else 0.0,
        "cancelling": lambda prompt, tokens: (
            (len(tokens) == 1) * number(prompt, tokens[0])
            - is_last(tokens) * number(prompt, tokens[0])
        ),
    }


def make_world(reward: Reward, seed: int) -> tuple[World, TabularPolicy, Tensor, Tensor]:
    """(World, TabularPolicy, exact V [K], wrong V [K])."""
    generator = torch.Generator().manual_seed(seed)
    world = World(reward, response_length=RESPONSE_LENGTH)
    policy = TabularPolicy(world, generator=generator)
    values, _ = values_and_action_values(world, policy().detach())
    return (
        world,
        policy,
        values,
        values + WRONG_BY * torch.randn(values.shape, generator=generator, dtype=torch.float64),
    )


# -- the weights of each stage, of a Batch


def whole_returns(batch: Batch) -> Tensor:
    return trajectory_returns(rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0)


def to_go(batch: Batch) -> Tensor:
    return rewards_to_go(rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0)


def minus_batch_mean(batch: Batch) -> Tensor:
    mean = batch_mean_baseline(rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0)
    return whole_returns(batch) - mean


def minus_leave_one_out(batch: Batch) -> Tensor:
    others = leave_one_out_baseline(
        rewards=batch.rewards, response_mask=batch.response_mask, gamma=1.0
    )
    return whole_returns(batch) - others


def minus_constant(constant: Tensor | float) -> Weights:
    return lambda batch: whole_returns(batch) - constant


def minus_values(batch: Batch) -> Tensor:
    return baseline_advantages(
        rewards=batch.rewards, values=batch.values, response_mask=batch.response_mask, gamma=1.0
    )


def gae(lam: float) -> Weights:
    return lambda batch: gae_advantages(
        rewards=batch.rewards,
        values=batch.values,
        response_mask=batch.response_mask,
        gamma=1.0,
        lam=lam,
    )


# -- the losses


def weighted(weights: Weights) -> Loss:
    """Stages 1 to 4: one loss, with these weights."""
    return lambda batch: policy_gradient_loss(
        logprobs=batch.logprobs, weights=weights(batch), response_mask=batch.response_mask
    )


def ratio_loss(loss: Callable[..., Tensor], weights: Weights, **options: float) -> Loss:
    """Stages 5 and 6 at theta_old, summed over tokens like the others: times (number of True
    tokens) / B."""

    def summed(batch: Batch) -> Tensor:
        tokens_per_row = batch.response_mask.sum() / len(batch.response_mask)
        return tokens_per_row * mean_over_tokens(loss, weights, **options)(batch)

    return summed


def mean_over_tokens(loss: Callable[..., Tensor], weights: Weights, **options: float) -> Loss:
    """Stages 5 and 6 at theta_old as they are: a mean over the True tokens of the batch."""
    return lambda batch: loss(
        logprobs=batch.logprobs,
        old_logprobs=batch.old_logprobs,
        advantages=weights(batch),
        response_mask=batch.response_mask,
        **options,
    )


def best_constant(world: World, policy: nn.Module) -> Tensor:
    """The constant baseline with the least total variance, from all responses."""
    probabilities, scores = gradient_samples(
        world, policy, weighted(lambda batch: torch.ones_like(batch.rewards))
    )
    returns = world.response_rewards.sum(dim=1)
    return optimal_constant_baseline(
        returns=returns, squared_norms=probabilities * (scores**2).sum(dim=1)
    )


def rows(
    world: World, policy: nn.Module, values: Tensor, wrong_values: Tensor
) -> list[tuple[int, str, Loss, Tensor | None, int]]:
    """[(stage, name, loss, values, batch size)]: the rows of the table."""
    expected_length = reach_probabilities(world, policy().detach()).sum()
    best = minus_constant(best_constant(world, policy))
    ppo_as_is = mean_over_tokens(clipped_surrogate_loss, gae(0.95), cliprange=0.2)
    return [
        (1, "policy gradient", weighted(whole_returns), None, 1),
        (2, "reward-to-go", weighted(to_go), None, 1),
        (3, "whole return - 10", weighted(minus_constant(10.0)), None, 1),
        (3, "whole return - best constant", weighted(best), None, 1),
        (3, "whole return - mean of batch of 2", weighted(minus_batch_mean), None, 2),
        (3, "whole return - other one of 2", weighted(minus_leave_one_out), None, 2),
        (3, "reward-to-go - exact V", weighted(minus_values), values, 1),
        (3, "reward-to-go - wrong V", weighted(minus_values), wrong_values, 1),
        (4, "GAE 0.95, exact V", weighted(gae(0.95)), values, 1),
        (4, "GAE 0.95, wrong V", weighted(gae(0.95)), wrong_values, 1),
        (4, "TD (lam 0), exact V", weighted(gae(0.0)), values, 1),
        (4, "TD (lam 0), wrong V", weighted(gae(0.0)), wrong_values, 1),
        (
            5,
            "TRPO's surrogate, GAE 0.95, exact V",
            ratio_loss(surrogate_loss, gae(0.95)),
            values,
            1,
        ),
        (
            6,
            "PPO clipped, GAE 0.95, exact V",
            ratio_loss(clipped_surrogate_loss, gae(0.95), cliprange=0.2),
            values,
            1,
        ),
        (
            6,
            "the same, mean over tokens, of 2",
            lambda batch: expected_length * ppo_as_is(batch),
            values,
            2,
        ),
    ]


def gradient_table(seed: int = 0) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """{kind of reward: [{"stage", "name", "bias", "variance"}]}, and the size of the exact
    gradients, {kind: max abs}."""
    table, sizes = {}, {}
    for kind, reward in reward_functions(seed).items():
        world, policy, values, wrong_values = make_world(reward, seed)
        exact = exact_gradient(world, policy)
        sizes[kind] = exact.abs().max().item()
        table[kind] = []
        for stage, name, loss, critic, size in rows(world, policy, values, wrong_values):
            bias, variance = bias_and_variance(world, policy, loss, exact, values=critic, size=size)
            table[kind].append({"stage": stage, "name": name, "bias": bias, "variance": variance})
    return table, sizes


def advantage_table(seed: int = 0) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{kind of reward: {critic: [{"lam", "bias", "tilt", "variance", "gradient bias", "gradient
    variance"}]}}."""
    table = {}
    for kind, reward in reward_functions(seed).items():
        world, policy, values, wrong_values = make_world(reward, seed)
        exact, logits = exact_gradient(world, policy), policy().detach()
        table[kind] = {"exact V": [], "wrong V": []}
        for critic, state_values in (("exact V", values), ("wrong V", wrong_values)):
            for lam in LAMBDAS:
                estimates = gae_advantages(
                    rewards=world.response_rewards,
                    values=world.along_responses(state_values),
                    response_mask=world.response_mask,
                    gamma=1.0,
                    lam=lam,
                )
                bias, variance = bias_and_variance(
                    world, policy, weighted(gae(lam)), exact, values=state_values
                )
                table[kind][critic].append(
                    {
                        "lam": lam,
                        **advantage_errors(world, logits, estimates),
                        "gradient bias": bias,
                        "gradient variance": variance,
                    }
                )
    return table
