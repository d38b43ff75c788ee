"""Stage 6: several passes of minibatches over one rollout; policy and critic share an optimiser.

The four variants are one update with another surrogate, the loss of the policy:

    ppo               the ratios are clipped
    ppo_unclipped     nothing holds the ratios
    ppo_kl            a fixed price on KL(old || new)
    ppo_adaptive_kl   a price that follows the KL that the last update made
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minippo.algorithms.base import (
    Algorithm,
    Experience,
    PPOConfig,
    Updated,
    adam,
    metrics_of_steps,
    minibatches,
    of_the_critic,
    ratios_and_advantages,
    step_statistics,
)
from minippo.algorithms.policy_gradient import gae_weights
from minippo.logprobs import token_entropy
from minippo.masked import masked_mean
from minippo.ppo import (
    adapt_kl_coef,
    clipped_surrogate_loss,
    clipped_value_loss,
    kl_penalised_surrogate_loss,
    unclipped_surrogate_loss,
)
from minippo.ppo_statistics import clipped_value_fraction
from minippo.rollout import Models, response_logits, response_logprobs, response_values
from minippo.stages.optimise import take_step

Numbers = dict[str, float]
Surrogate = Callable[[dict[str, Tensor], PPOConfig, Numbers], Tensor]


# -- the surrogates, the numbers that they start from, and what one learns from an update


def clipped(for_policy: dict[str, Tensor], config: PPOConfig, numbers: Numbers) -> Tensor:
    return clipped_surrogate_loss(**for_policy, cliprange=config.cliprange)


def unclipped(for_policy: dict[str, Tensor], config: PPOConfig, numbers: Numbers) -> Tensor:
    return unclipped_surrogate_loss(**for_policy)


def kl_penalised(for_policy: dict[str, Tensor], config: PPOConfig, numbers: Numbers) -> Tensor:
    return kl_penalised_surrogate_loss(**for_policy, kl_old_coef=numbers["kl_old_coef"])


def nothing(config: PPOConfig) -> Numbers:
    return {}


def price(config: PPOConfig) -> Numbers:
    return {"kl_old_coef": config.kl_old_coef}


def unchanged(numbers: Numbers, kl_old_to_policy: float, config: PPOConfig) -> Numbers:
    return numbers


def adapt(numbers: Numbers, kl_old_to_policy: float, config: PPOConfig) -> Numbers:
    coef = adapt_kl_coef(
        kl_coef=numbers["kl_old_coef"], kl=kl_old_to_policy, target=config.kl_old_target
    )
    return {"kl_old_coef": coef}


# -- the update


class PPOUpdate:
    """num_ppo_epochs passes of minibatches. Each step minimises

    surrogate + vf_coef * clipped value loss - ent_coef * entropy.
    """

    def __init__(
        self,
        models: Models,
        config: PPOConfig,
        generator: torch.Generator,
        *,
        surrogate: Surrogate = clipped,
        start: Callable[[PPOConfig], Numbers] = nothing,
        learn: Callable[[Numbers, float, PPOConfig], Numbers] = unchanged,
    ):
        self.policy, self.critic = models.policy, of_the_critic(models.critic)
        self.config, self.generator = config, generator
        self.surrogate, self.learn = surrogate, learn
        self.numbers: Numbers = start(config)
        self.optimizers = [adam(config, policy=self.policy, critic=self.critic)]

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated:
        config, steps, norms = self.config, [], []
        for _ in range(config.num_ppo_epochs):
            for batch in minibatches(experience, config, self.generator):
                parts, logprobs, statistics = self.parts_of_the_loss(batch)
                loss = (
                    parts["policy_loss"]
                    + config.vf_coef * parts["value_loss"]
                    - config.ent_coef * parts["entropy"]
                )
                norm = take_step(
                    self.optimizers,
                    loss,
                    learning_rate,
                    where=where,
                    max_grad_norm=config.max_grad_norm,
                    parts=parts,
                )
                steps.append(statistics)
                norms.append(norm)
            if self.has_gone_too_far(steps[-1]):
                break
        metrics = metrics_of_steps(steps) | {"policy/grad_norm": sum(norms) / len(norms)}
        metrics |= {f"objective/{name}": value for name, value in self.numbers.items()}
        return Updated(metrics, ratios_and_advantages(logprobs.detach(), batch))

    def parts_of_the_loss(
        self, batch: Experience
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """The three parts of the loss of a minibatch, the log-probabilities, and what is logged."""
        rollout, advantages, targets = batch
        mask = rollout.response_mask
        logits = response_logits(self.policy, rollout, self.config.temperature)
        logprobs = response_logprobs(logits, rollout)
        for_policy = {
            "logprobs": logprobs,
            "old_logprobs": rollout.old_logprobs,
            "advantages": advantages,
            "response_mask": mask,
        }
        for_critic = {
            "values": response_values(self.critic, rollout),
            "old_values": rollout.old_values,
            "value_targets": targets,
            "response_mask": mask,
            "cliprange_value": self.config.cliprange_value,
        }
        parts = {
            "policy_loss": self.surrogate(for_policy, self.config, self.numbers),
            "value_loss": clipped_value_loss(**for_critic),
            "entropy": masked_mean(values=token_entropy(logits=logits), mask=mask),
        }
        statistics = step_statistics(batch, logits, logprobs, parts["policy_loss"], self.config) | {
            "loss/value_avg": parts["value_loss"],
            "val/clipfrac_avg": clipped_value_fraction(**for_critic),
        }
        return parts, logprobs, statistics

    def has_gone_too_far(self, step: dict[str, Tensor]) -> bool:
        """Was the last minibatch of a pass beyond target_kl?"""
        target = self.config.target_kl
        return target is not None and step["policy/approxkl_avg"].item() > target

    def look_back(self, kl_old_to_policy: float) -> None:
        self.numbers = self.learn(self.numbers, kl_old_to_policy, self.config)


FIELDS = (
    "lam",
    "num_ppo_epochs",
    "num_mini_batches",
    "cliprange_value",
    "vf_coef",
    "ent_coef",
    "target_kl",
)
PPO = Algorithm(
    name="ppo",
    summary="proximal policy optimisation with clipped ratios",
    weights=gae_weights,
    update=PPOUpdate,
    fields=("cliprange", *FIELDS),
)
PPO_UNCLIPPED = Algorithm(
    name="ppo_unclipped",
    summary="the same with nothing to hold the ratios",
    weights=gae_weights,
    update=partial(PPOUpdate, surrogate=unclipped),
    fields=FIELDS,
    silent_diagnostics=("P007",),
)
PPO_KL = Algorithm(
    name="ppo_kl",
    summary="the same with a fixed price on KL(old || new)",
    weights=gae_weights,
    update=partial(PPOUpdate, surrogate=kl_penalised, start=price),
    fields=("kl_old_coef", *FIELDS),
    numbers=("kl_old_coef",),
    silent_diagnostics=("P007",),
)
PPO_ADAPTIVE_KL = Algorithm(
    name="ppo_adaptive_kl",
    summary="the same with a price that is adapted to a target",
    weights=gae_weights,
    update=partial(PPOUpdate, surrogate=kl_penalised, start=price, learn=adapt),
    fields=("kl_old_coef", "kl_old_target", *FIELDS),
    numbers=("kl_old_coef",),
    silent_diagnostics=("P007",),
)
