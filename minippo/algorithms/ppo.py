"""Stage 6: several passes of minibatches over one rollout; policy and critic share an optimiser.

The four variants are one update with another surrogate, the loss of the policy:

    ppo               the ratios are clipped
    ppo_unclipped     nothing holds the ratios
    ppo_kl            a fixed price on KL(old || new)
    ppo_adaptive_kl   a price that follows the KL that the last update made
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from minippo.algorithms.base import (
    Actions,
    Algorithm,
    Experience,
    Passes,
    Step,
    Updated,
    actions_of,
    adam,
    of_the_critic,
    step_statistics,
)
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.policy_gradient import CRITIC_STARTS, gae_weights
from minippo.algorithms.terms import kl_term, ptx_term, reduced, with_dropout
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
from minippo.relatives.ratios import dual_clipped_surrogate_loss
from minippo.rollout import Models, logits_and_values, response_logprobs

Numbers = dict[str, float]
Surrogate = Callable[[Actions, PPOConfig, Numbers], Tensor]


# -- the surrogates, the numbers that they start from, and what one learns from an update


def clipped(actions: Actions, config: PPOConfig, numbers: Numbers) -> Tensor:
    if config.dual_clip is None:
        return clipped_surrogate_loss(**actions, cliprange=config.cliprange)
    return dual_clipped_surrogate_loss(
        **actions, cliprange=config.cliprange, dual_clip=config.dual_clip
    )


def unclipped(actions: Actions, config: PPOConfig, numbers: Numbers) -> Tensor:
    return unclipped_surrogate_loss(**actions)


def kl_penalised(actions: Actions, config: PPOConfig, numbers: Numbers) -> Tensor:
    return kl_penalised_surrogate_loss(**actions, kl_old_coef=numbers["kl_old_coef"])


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

    surrogate + vf_coef * clipped value loss - ent_coef * entropy

    and, where they are asked for, kl_coef * KL to the reference and ptx_coef * pretraining loss.
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
        updated = Passes(self.optimizers, self.config, self.generator)(
            experience,
            self.step_on,
            learning_rate=learning_rate,
            where=where,
            is_enough=self.has_gone_too_far,
        )
        numbers = {f"objective/{name}": value for name, value in self.numbers.items()}
        return updated._replace(metrics=updated.metrics | numbers)

    def step_on(self, batch: Experience) -> Step:
        """The loss of a minibatch, made of its parts."""
        config = self.config
        with with_dropout([self.policy, self.critic], config.dropout, self.generator):
            parts, actions, statistics = self.parts_of_the_loss(batch)
        loss = (
            parts["policy_loss"]
            + config.vf_coef * parts["value_loss"]
            - config.ent_coef * parts["entropy"]
        )
        others = [parts[name] for name in ("kl_loss", "ptx_loss") if name in parts]
        return Step(sum(others, loss), parts, actions, statistics)

    def parts_of_the_loss(
        self, batch: Experience
    ) -> tuple[dict[str, Tensor], Actions, dict[str, Tensor]]:
        """The parts of the loss of a minibatch, the actions that it is about, and what is
        logged."""
        rollout, config = batch.rollout, self.config
        logits, values = logits_and_values(self.policy, self.critic, rollout, config.temperature)
        logprobs = response_logprobs(logits, rollout)
        actions = actions_of(logprobs, batch, config)
        for_critic = {
            "values": values,
            "old_values": rollout.old_values,
            "value_targets": batch.targets,
            "response_mask": rollout.value_mask,
            "cliprange_value": math.inf
            if config.cliprange_value is None
            else config.cliprange_value,
        }
        parts = {
            "policy_loss": self.surrogate(reduced(actions, config), config, self.numbers),
            "value_loss": clipped_value_loss(**for_critic),
            "entropy": masked_mean(values=token_entropy(logits=logits), mask=rollout.response_mask),
        }
        statistics = step_statistics(actions, logits, rollout, parts["policy_loss"], config) | {
            "loss/value_avg": parts["value_loss"],
            "val/clipfrac_avg": clipped_value_fraction(**for_critic),
        }
        if config.kl_loss != "none":
            parts["kl_loss"] = kl_term(logprobs, batch, actions, config)
            statistics["loss/kl_avg"] = parts["kl_loss"]
        if config.ptx_coef > 0:
            parts["ptx_loss"] = ptx_term(self.policy, batch, config)
            statistics["loss/ptx_avg"] = parts["ptx_loss"]
        return parts, actions, statistics

    def has_gone_too_far(self, step: Step) -> bool:
        """Was the last minibatch of a pass beyond target_kl?"""
        target = self.config.target_kl
        return target is not None and step.statistics["policy/approxkl_avg"].item() > target

    def look_back(self, kl_old_to_policy: float) -> None:
        self.numbers = self.learn(self.numbers, kl_old_to_policy, self.config)


FIELDS = (
    *CRITIC_STARTS,
    "lam",
    "critic_lam",
    "action",
    "loss_reduction",
    "whiten_over",
    "kl_in",
    "kl_loss",
    "critic",
    "dropout",
    "ptx_coef",
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
    fields=("cliprange", "dual_clip", *FIELDS),
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
