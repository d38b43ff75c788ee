"""The data of one step of stages 5 and 6, exact or sampled: batches, advantages, surrogates."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from minippo.exact.oracle import (
    reach_probabilities,
    response_probabilities,
    values_and_action_values,
)
from minippo.exact.world import World
from minippo.reward_to_go import rewards_to_go
from minippo.trpo import surrogate_loss


def sampled_batch(world: World, policy: nn.Module, rows: int, generator: torch.Generator) -> Tensor:
    """Indices of `rows` responses drawn from the policy."""
    probabilities = response_probabilities(world, policy().detach())
    return torch.multinomial(probabilities, rows, replacement=True, generator=generator)


def exact_advantages(world: World, logits: Tensor) -> Tensor:
    """A = Q - V along every response, [N,T]."""
    values, action_values = values_and_action_values(world, logits)
    advantages = (action_values - values.unsqueeze(1))[world.state_index, world.response_tokens]
    return torch.where(world.response_mask, advantages, 0.0)


def exact_surrogate(world: World, policy: nn.Module, old_logits: Tensor) -> Callable[[], Tensor]:
    """L = -sum_s d_old(s) sum_a pi(a|s) A_old(s,a) over the expected length: the mean over tokens
    without sampling."""
    values, action_values = values_and_action_values(world, old_logits)
    visits = reach_probabilities(world, old_logits)
    advantages = action_values - values.unsqueeze(1)
    return lambda: (
        -(visits * (torch.softmax(policy(), dim=-1) * advantages).sum(dim=-1)).sum() / visits.sum()
    )


def sampled_surrogate(
    world: World, policy: nn.Module, old_logits: Tensor, index: Tensor
) -> Callable[[], Tensor]:
    """The surrogate on the responses of a batch, with Monte Carlo advantages against the exact
    V."""
    mask, old_logprobs = world.response_mask[index], world.logprobs(old_logits)[index]
    values, _ = values_and_action_values(world, old_logits)
    returns_to_go = rewards_to_go(
        rewards=world.response_rewards[index], response_mask=mask, gamma=1.0
    )
    advantages = returns_to_go - world.along_responses(values)[index]
    return lambda: surrogate_loss(
        logprobs=world.logprobs(policy())[index],
        old_logprobs=old_logprobs,
        advantages=advantages,
        response_mask=mask,
    )
