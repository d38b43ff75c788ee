"""Stages 1 to 4: one step of the policy gradient on the whole rollout.

They are one update with four kinds of weights. The critic of the last two learns apart, in passes
of its own over the value loss.

    pg         the whole return
    rtg        the reward-to-go
    baseline   the reward-to-go minus V
    gae        generalised advantage estimation

They are trained without whitening: it subtracts the mean of the weights, which is a baseline, and
would make all four of them stage 3. They take one step where PPO takes num_ppo_epochs *
num_mini_batches, hence a larger one.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from minippo.algorithms.base import (
    Algorithm,
    Experience,
    Updated,
    actions_of,
    adam,
    metrics_of_steps,
    minibatches,
    of_the_critic,
    step_statistics,
    tokens_after,
)
from minippo.algorithms.config import PPOConfig
from minippo.baseline import baseline_advantages, value_loss
from minippo.critic_head import Critic
from minippo.gae import gae_advantages
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.reward_to_go import rewards_to_go
from minippo.rollout import Models, response_logits, response_logprobs, response_values
from minippo.stages.optimise import take_step

SETTINGS = {"whiten_advantages": False, "learning_rate": 1e-3}
CRITIC_STARTS = ("critic_start", "critic_warmup", "value_after_end")  # of all that have a critic
CRITIC_FIELDS = (*CRITIC_STARTS, "value_epochs", "num_mini_batches")  # with CriticPasses


# -- the weights


def whole_return_weights(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    return trajectory_returns(rewards=rewards, response_mask=mask, gamma=config.gamma)


def reward_to_go_weights(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    return rewards_to_go(rewards=rewards, response_mask=mask, gamma=config.gamma)


def baseline_weights(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    return baseline_advantages(
        rewards=rewards, values=of_the_critic(values), response_mask=mask, gamma=config.gamma
    )


def gae_weights(rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig) -> Tensor:
    return gae_advantages(
        rewards=rewards,
        values=of_the_critic(values),
        response_mask=mask,
        gamma=config.gamma,
        lam=config.lam,
    )


# -- the update


class CriticPasses:
    """value_epochs passes of minibatches over the value loss, with an optimiser of the critic's
    own; nothing at all where there is no critic."""

    def __init__(self, critic: Critic | None, config: PPOConfig, generator: torch.Generator):
        self.critic, self.config, self.generator = critic, config, generator
        self.optimizers: list[Optimizer] = [] if critic is None else [adam(config, critic=critic)]

    def __call__(
        self, experience: Experience, *, learning_rate: float, where: str
    ) -> dict[str, float | None]:
        if self.critic is None:
            return {}
        config, losses = self.config, []
        for _ in range(config.value_epochs):
            for batch in minibatches(experience, config, self.generator):
                mask = batch.rollout.value_mask
                loss = value_loss(
                    values=response_values(self.critic, batch.rollout, mask),
                    value_targets=of_the_critic(batch.targets),
                    response_mask=mask,
                )
                take_step(
                    self.optimizers,
                    loss,
                    learning_rate,
                    where=where,
                    max_grad_norm=config.max_grad_norm,
                )
                losses.append({"loss/value_avg": loss})
        return metrics_of_steps(losses) | {"val/clipfrac_avg": 0.0}


class PolicyGradientUpdate:
    """One optimiser step on the whole rollout, then the critic's passes."""

    def __init__(
        self,
        models: Models,
        config: PPOConfig,
        generator: torch.Generator,
        *,
        loss: Callable[..., Tensor] = policy_gradient_loss,
    ):
        self.policy, self.config, self.loss = models.policy, config, loss
        self.optimizer = adam(config, policy=models.policy)
        self.critic = CriticPasses(models.critic, config, generator)
        self.optimizers = [self.optimizer, *self.critic.optimizers]
        self.numbers: dict[str, float] = {}

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated:
        rollout, advantages = experience.rollout, experience.advantages
        logits = response_logits(self.policy, rollout, self.config.temperature)
        logprobs = response_logprobs(logits, rollout)
        loss = self.loss(logprobs=logprobs, weights=advantages, response_mask=rollout.response_mask)
        actions = actions_of(logprobs, experience, self.config)
        statistics = step_statistics(actions, logits, rollout, loss, self.config)
        norm = take_step(
            [self.optimizer],
            loss,
            learning_rate,
            where=where,
            max_grad_norm=self.config.max_grad_norm,
        )
        metrics = metrics_of_steps([statistics]) | {"policy/grad_norm": norm}
        metrics |= self.critic(experience, learning_rate=learning_rate, where=where)
        return Updated(metrics, tokens_after(self.policy, experience, self.config))

    def look_back(self, kl_old_to_policy: float) -> None:
        """One step a rollout, whatever the last one did."""


PG = Algorithm(
    name="pg",
    summary="vanilla policy gradient, weighted with the whole return",
    weights=whole_return_weights,
    update=PolicyGradientUpdate,
    has_critic=False,
    settings=SETTINGS,
    silent_diagnostics=("P007",),
)
RTG = Algorithm(
    name="rtg",
    summary="policy gradient, weighted with the reward-to-go",
    weights=reward_to_go_weights,
    update=PolicyGradientUpdate,
    has_critic=False,
    settings=SETTINGS,
    silent_diagnostics=("P007",),
)
BASELINE = Algorithm(
    name="baseline",
    summary="policy gradient, weighted with the reward-to-go minus the critic's value",
    weights=baseline_weights,
    update=PolicyGradientUpdate,
    settings=SETTINGS,
    fields=CRITIC_FIELDS,
    silent_diagnostics=("P007",),
)
GAE = Algorithm(
    name="gae",
    summary="policy gradient, weighted with generalised advantage estimates",
    weights=gae_weights,
    update=PolicyGradientUpdate,
    settings=SETTINGS,
    fields=("lam", "critic_lam", *CRITIC_FIELDS),
    silent_diagnostics=("P007",),
)
