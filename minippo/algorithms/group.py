"""PPO's relatives without a critic: the responses to a prompt are each other's baseline.

What a record states is a row of this table, and the whole difference between them:

    name     advantage        ratio                          reduction           KL as published
    rloo     leave one out    one per response, clip         mean over rows      k1 in the reward
    grpo     standardised     per token, clip                mean per response   k3 in the loss
    dr_grpo  centred          per token, clip                sum over a constant none
    gspo     standardised     its geometric mean, clip       mean over rows      none
    cispo    standardised     per token, a weight cut above  mean over tokens    none
    dapo     standardised     per token, two ranges          mean over tokens    none

A response has one number for all that it was paid, its score and, where the KL is in the reward,
what its tokens paid for that; the advantage is made of the numbers of the group. dapo drops groups
whose scores are all equal, draws other prompts for them, and lets the score fall near the longest
length.

The update is PPO's, passes of minibatches, with the policy alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minippo.algorithms.base import (
    Algorithm,
    Experience,
    Passes,
    Step,
    Updated,
    adam,
    step_statistics,
)
from minippo.algorithms.config import PPOConfig
from minippo.algorithms.ratios import (
    GEOMETRIC_MEAN,
    PER_RESPONSE,
    PER_TOKEN,
    TWO_RANGES,
    WEIGHT,
    Ratio,
    share_held,
)
from minippo.algorithms.terms import kl_term, reduced
from minippo.masked import zero_padding
from minippo.relatives.groups import (
    centred_advantages,
    leave_one_out_advantages,
    overlong_penalty,
    standardised_advantages,
    token_weights,
)
from minippo.rollout import Models, response_logits, response_logprobs

GROUP_SIZE = 4  # responses to a prompt, unless samples_per_prompt says otherwise


# -- the advantages: (rewards, values, response_mask, config) -> [B,T]


def leave_one_out(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    scores = paid_to(rewards, mask)
    advantages = leave_one_out_advantages(scores=scores, group_size=size_of_group(config))
    return token_weights(advantages=advantages, response_mask=mask)


def centred(rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig) -> Tensor:
    scores = paid_to(rewards, mask)
    advantages = centred_advantages(scores=scores, group_size=size_of_group(config))
    return token_weights(advantages=advantages, response_mask=mask)


def standardised(rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig) -> Tensor:
    advantages = standardised_advantages(
        scores=paid_to(rewards, mask),
        group_size=size_of_group(config),
        correction=config.std_correction,
    )
    return token_weights(advantages=advantages, response_mask=mask)


def standardised_with_penalty(
    rewards: Tensor, values: Tensor | None, mask: Tensor, config: PPOConfig
) -> Tensor:
    """The same of scores that fall near response_length."""
    buffer = config.overlong_buffer
    if buffer is None:
        buffer = config.response_length // 5  # 4,096 of 20,480 tokens in the paper
    if buffer > 0:
        penalty = overlong_penalty(
            response_mask=mask, max_length=config.response_length, buffer=buffer
        )
        rewards = torch.cat((rewards[:, :1] + penalty.unsqueeze(1), rewards[:, 1:]), dim=1)
    return standardised(rewards, values, mask, config)


def paid_to(rewards: Tensor, mask: Tensor) -> Tensor:
    """All that each response was paid, [B]."""
    return zero_padding(values=rewards, mask=mask).sum(dim=1)


def size_of_group(config: PPOConfig) -> int:
    """Responses to a prompt; the trainer has filled in the algorithm's own."""
    return config.samples_per_prompt or GROUP_SIZE


# -- the update


class GroupUpdate:
    """num_ppo_epochs passes of minibatches. Each step minimises the loss of the ratio, and where it
    is asked for kl_coef * KL to the reference."""

    def __init__(
        self, models: Models, config: PPOConfig, generator: torch.Generator, *, ratio: Ratio
    ):
        self.policy, self.config, self.generator = models.policy, config, generator
        self.ratio = ratio
        self.numbers: dict[str, float] = {}
        self.optimizers = [adam(config, policy=self.policy)]

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated:
        passes = Passes(self.optimizers, self.config, self.generator)
        return passes(experience, self.step_on, learning_rate=learning_rate, where=where)

    def step_on(self, batch: Experience) -> Step:
        """The loss of a minibatch, made of its parts."""
        rollout, config = batch.rollout, self.config
        logits = response_logits(self.policy, rollout, config.temperature)
        logprobs = response_logprobs(logits, rollout)
        tokens = {
            "logprobs": logprobs,
            "old_logprobs": rollout.old_logprobs,
            "advantages": batch.advantages,
            "response_mask": rollout.response_mask,
        }
        actions = self.ratio.of(tokens)
        parts = {"policy_loss": self.ratio.loss(reduced(tokens, config), config)}
        statistics = step_statistics(actions, logits, rollout, parts["policy_loss"], config)
        statistics["policy/clipfrac_avg"] = share_held(actions, self.ratio, config)
        if config.kl_loss != "none":
            unit = actions if self.ratio.is_of_response else tokens
            parts["kl_loss"] = kl_term(logprobs, batch, unit, config)
            statistics["loss/kl_avg"] = parts["kl_loss"]
        loss, *others = parts.values()
        return Step(sum(others, loss), parts, actions, statistics)

    def look_back(self, kl_old_to_policy: float) -> None:
        """Nothing changes."""


# -- the records

WITHIN_THE_GROUP = "the other responses to the prompt are the only scale and baseline"
ONE_NUMBER = "a response has one number for all that it was paid"
IGNORED = {
    **dict.fromkeys(("whiten_advantages", "whiten_rewards", "whiten_bessel"), WITHIN_THE_GROUP),
    **dict.fromkeys(("gamma", "score_place"), ONE_NUMBER),
}
FIELDS = ("kl_in", "kl_loss", "num_ppo_epochs", "num_mini_batches")
MANY_ARE_HELD = ("P007",)  # the ratio of a response soon leaves its range, in sound runs too
OVER_ROWS = None  # the mean over rows, which the loss itself takes
Kl = tuple[str, str] | None  # (reward or loss, its form)


def relative(
    *,
    advantage: Callable[..., Tensor],
    ratio: Ratio,
    reduction: str | None,
    kl: Kl,
    settings: dict[str, Any] | None = None,
    fields: tuple[str, ...] = (),
    **more: Any,
) -> Algorithm:
    """The record that four choices make."""
    where, form = kl or ("none", "none")
    own = {"whiten_advantages": False, "kl_reward": "none", "kl_loss": "none"}
    own[f"kl_{where}"] = form
    if where == "loss":
        own |= {"allow_broken": True}  # it is known by this form; what else is broken is refused
        more["kl_loss"] = form
    if reduction is not None:
        own["loss_reduction"] = reduction
        fields = ("loss_reduction", *fields)
    own.pop("kl_none", None)
    return Algorithm(
        weights=advantage,
        update=partial(GroupUpdate, ratio=ratio),
        has_critic=False,
        samples_per_prompt=GROUP_SIZE,
        settings=own | (settings or {}),
        fields=(*ratio.fields, *fields, *FIELDS),
        ignores=IGNORED,
        ranges=ratio.ranges,
        **more,
    )


RLOO = relative(
    name="rloo",
    summary="the score less the mean of the others', one ratio per response",
    advantage=leave_one_out,
    ratio=PER_RESPONSE,
    reduction=OVER_ROWS,
    kl=("reward", "k1"),
    silent_diagnostics=MANY_ARE_HELD,
)
GRPO = relative(
    name="grpo",
    summary="scores standardised within their group, the KL in the loss",
    advantage=standardised,
    ratio=PER_TOKEN,
    reduction="sequence_mean",
    kl=("loss", "k3"),
    fields=("std_correction",),
)
DR_GRPO = relative(
    name="dr_grpo",
    summary="GRPO without the deviation and without the division by the length",
    advantage=centred,
    ratio=PER_TOKEN,
    reduction="constant_mean",
    kl=None,
)
GSPO = relative(
    name="gspo",
    summary="GRPO with the geometric mean of a response's ratios",
    advantage=standardised,
    ratio=GEOMETRIC_MEAN,
    reduction=OVER_ROWS,
    kl=None,
    settings={"cliprange_low": 3e-4, "cliprange_high": 4e-4},
    fields=("std_correction",),
    silent_diagnostics=MANY_ARE_HELD,
)
CISPO = relative(
    name="cispo",
    summary="GRPO with ratios that are weights: cut above, and no token loses its gradient",
    advantage=standardised,
    ratio=WEIGHT,
    reduction="token_mean",
    kl=None,
    fields=("std_correction",),
    silent_diagnostics=("P007",),
)
DAPO = relative(
    name="dapo",
    summary="GRPO with two ranges, full batches of groups that differ, a penalty for length",
    advantage=standardised_with_penalty,
    ratio=TWO_RANGES,
    reduction="token_mean",
    kl=None,
    fields=("std_correction", "overlong_buffer", "max_draws"),
    drops_equal_groups=True,
)
