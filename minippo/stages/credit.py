"""From a rollout to rewards, advantages and the critic's targets: who is paid, and how much.

    token_rewards        the KL on every token, the score on one
    the algorithm's      what each token was worth, from rewards and values: stages 1 to 4 of the
    weights              derivation; or one number for the whole response
    value_targets        what the critic should have said; made before the advantages are whitened
    whitened             advantages with mean 0 and standard deviation 1

With the default choices all of it happens on the slots of the response mask. The score may also be
paid behind the last token, and a value may stand there: then rewards and values have slots that no
action has, and only the advantages are cut down to the actions.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from minippo.algorithms import DEFAULT, REGISTRY
from minippo.algorithms.base import DEGENERATE, Experience, of_the_critic, whitened
from minippo.algorithms.config import PPOConfig
from minippo.gae import value_targets
from minippo.kl import kl_k2, kl_k3
from minippo.masked import masked_mean, masked_variance, scale_to_unit_std, zero_padding
from minippo.policy_gradient import trajectory_returns
from minippo.ppo import adapt_kl_coef
from minippo.rollout import Rollout, one_more
from minippo.shaped_reward import proportional_kl_coef, shaped_rewards
from minippo.shapes import remember_as_good


def everywhere(response_mask: Tensor) -> Tensor:
    """All slots, the padding behind the responses among them."""
    whole = torch.ones_like(response_mask)
    remember_as_good(whole)
    return whole


# score_place -> the slots that a reward may stand in; the score is paid on each row's last
REWARD_SLOTS: dict[str, Callable[[Tensor], Tensor]] = {
    "last_token": lambda response_mask: response_mask,
    "after_eos": one_more,
    "last_column": everywhere,
}
# kl_reward -> what a token pays for, [B,T]; k1 is shaped_rewards' own
OTHER_KL: dict[str, Callable[[Rollout], Tensor]] = {
    "k2": lambda rollout: kl_k2(logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs),
    "k3": lambda rollout: kl_k3(logprobs=rollout.old_logprobs, ref_logprobs=rollout.ref_logprobs),
    "exact": lambda rollout: rollout.exact_kl,
    "none": lambda rollout: torch.zeros_like(rollout.old_logprobs),
}


def estimate_advantages(
    rollout: Rollout, config: PPOConfig, algorithm: str = DEFAULT
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(rewards, advantages, value_targets) of a rollout, [B,T] each; targets are None where there
    is no critic."""
    reward_mask = REWARD_SLOTS[config.score_place](rollout.response_mask)
    rewards = rewards_of(rollout, config)
    paid = rewards + value_of_the_rest(rollout, config)
    record = REGISTRY[algorithm]
    config = replace(config, samples_per_prompt=record.samples(config))
    slots = both(reward_mask, rollout.value_mask if config.action == "token" else reward_mask)
    values = rollout.old_values
    weigh = record.weights if config.action == "token" else response_weights
    weights = weigh(paid, values, slots, config)
    targets = None
    if values is not None:
        for_critic = weights
        if config.critic_lam is not None and config.action == "token":
            own = replace(config, lam=config.critic_lam)
            for_critic = record.weights(paid, values, slots, own)
        targets = value_targets(
            advantages=for_critic, values=values, response_mask=rollout.value_mask
        )
    counted, is_any = rollout.response_mask, True
    if config.mask_unended:
        counted = counted & rollout.ended.unsqueeze(1)
        is_any = bool(counted.any())
    advantages = torch.where(counted, weights, 0.0)
    whitens = config.whiten_advantages and "whiten_advantages" not in record.ignores
    if whitens and config.whiten_over == "rollout" and is_any:
        advantages = whitened(advantages, counted, config)
    return rewards, advantages, targets


def rewards_of(rollout: Rollout, config: PPOConfig) -> Tensor:
    """What each slot of a rollout is paid, [B,T], scaled where that is asked for."""
    reward_mask = REWARD_SLOTS[config.score_place](rollout.response_mask)
    rewards = token_rewards(rollout, reward_mask, config)
    if config.whiten_rewards and masked_variance(values=rewards, mask=reward_mask) > DEGENERATE:
        return scaled(rewards, reward_mask, config)
    return rewards


def token_rewards(rollout: Rollout, reward_mask: Tensor, config: PPOConfig) -> Tensor:
    """The KL that each token pays, and the score on the last slot of reward_mask, [B,T]."""
    rewards = shaped_rewards(
        scores=rollout.scores,
        old_logprobs=rollout.old_logprobs,
        ref_logprobs=rollout.ref_logprobs,
        response_mask=reward_mask,
        kl_coef=config.kl_coef if config.kl_reward == "k1" else 0.0,
    )
    if config.kl_reward == "k1":
        return rewards
    kl = zero_padding(values=OTHER_KL[config.kl_reward](rollout), mask=rollout.response_mask)
    return rewards - config.kl_coef * kl


def scaled(rewards: Tensor, mask: Tensor, config: PPOConfig) -> Tensor:
    """The rewards with standard deviation 1 and the mean that they have."""
    unit = scale_to_unit_std(values=rewards, mask=mask)
    if not config.whiten_bessel:
        return unit
    n, mean = int(mask.sum()), masked_mean(values=rewards, mask=mask)
    return zero_padding(values=(unit - mean) * ((n - 1) / n) ** 0.5 + mean, mask=mask)


def value_of_the_rest(rollout: Rollout, config: PPOConfig) -> Tensor:
    """With `bootstrap`: what a response that the length cut off would still have got, paid on its
    last token, [B,T]; 0 otherwise."""
    mask = rollout.response_mask
    rest = torch.zeros_like(rollout.old_logprobs)
    if config.value_after_end != "bootstrap" or rollout.end_values is None:
        return rest
    left = torch.where(rollout.ended, 0.0, config.gamma * rollout.end_values)
    return rest.scatter(1, mask.sum(dim=1, keepdim=True) - 1, left.unsqueeze(1))


def both(one: Tensor, other: Tensor) -> Tensor:
    """The slots of either mask."""
    if one is other:
        return one
    union = one | other
    remember_as_good(union)  # each row is one run of True from the first slot on, in both
    return union


def response_weights(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    """All that a response was paid, less what the critic said of its prompt: the same number at
    every token, [B,T]."""
    returns = trajectory_returns(rewards=rewards, response_mask=mask, gamma=1.0)
    return zero_padding(values=returns - of_the_critic(values)[:, :1], mask=mask)


def learned_from(experience: Experience, config: PPOConfig) -> Experience:
    """What an update sees: all responses, or with mask_unended those that end.

    Where none of them ends, all are seen, with advantages of 0: an update needs something to see.
    """
    ended = experience.rollout.ended
    if not config.mask_unended or not bool(ended.any()):
        return experience
    return experience.rows(ended.nonzero().flatten())


def next_kl_coef(kl_coef: float, kl: float, config: PPOConfig) -> float:
    """The price of the KL to the reference after an update whose rollout had this KL, in nats per
    response."""
    if config.kl_controller == "fixed":
        return kl_coef
    if config.kl_controller == "double_halve":
        return adapt_kl_coef(kl_coef=kl_coef, kl=kl, target=config.kl_target)
    return proportional_kl_coef(
        kl_coef=kl_coef, kl=kl, target=config.kl_target, share=config.batch_size / config.kl_horizon
    )
