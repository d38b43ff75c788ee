"""What an algorithm is: one record of the few things in which the algorithms differ.

    weights   what each token of a rollout was worth: stages 1 to 4 of the derivation, or what its
              response was worth beside others to the same prompt
    update    what is done with that: one step of the policy gradient, one of TRPO, passes of PPO

Where there is a critic, its targets are weights + values, so the weights must be estimates of the
advantage; an algorithm that changes their scale (takes their sign, say) does that in its update.

Nothing else knows an algorithm by its name. The rest of the record says what follows from the two:
whether there is a critic, which settings are read, which diagnostics have no meaning. An algorithm
that learns from pairs has an update that reads them, and no weights.
`minippo.algorithms` lists the records; CONTRIBUTING.md adds one in ten lines.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from minippo.algorithms.config import PPOConfig
from minippo.gpt import GPT
from minippo.logprobs import token_entropy, token_ratios
from minippo.masked import masked_mean, masked_variance, whiten, zero_padding
from minippo.ppo_statistics import ratio_statistics
from minippo.rollout import Models, Responses, Rollout, response_logits, response_logprobs
from minippo.shapes import rows_are_as_good
from minippo.stages.optimise import named_weights, take_step
from minippo.tasks.base import Example

Given = TypeVar("Given")
Actions = dict[str, Tensor]  # logprobs, old_logprobs, advantages, response_mask: a surrogate's
DEGENERATE = 1e-12  # variance of numbers that are all equal: nothing to divide by
# a statistic of a step that tells something at the first step of an update only -> its metric
AT_THE_FIRST_STEP = {"ratio_max_deviation": "val/ratio_max_deviation_first"}


class Experience(NamedTuple):
    """A rollout, and what is to be learned from it."""

    rollout: Rollout
    advantages: Tensor  # [B,T] the algorithm's weights
    targets: Tensor | None  # [B,T] what the critic should have said; None where there is none
    kl_coef: float = 0.0  # the price of the KL to the reference, where it is in the loss
    texts: Sequence[Example] | None = None  # of the pretraining, as many, for PPO-ptx

    def rows(self, index: Tensor) -> "Experience":
        """The same of some rows, as short as the longest of them: a minibatch."""
        rollout = self.rollout.rows(index).trimmed()
        T = rollout.response_mask.shape[1]
        targets = None if self.targets is None else self.targets[index, :T]
        texts = self.texts and [self.texts[i] for i in index.tolist()]
        return Experience(rollout, self.advantages[index, :T], targets, self.kl_coef, texts)


class Updated(NamedTuple):
    """What came of it."""

    metrics: dict[str, float | None]  # means over the optimiser steps, each taken before its step
    tokens: dict[str, list[float]]  # "ratios", "advantages" of real tokens


class Step(NamedTuple):
    """What an optimiser step minimises, and what is told of the policy before it."""

    loss: Tensor
    parts: dict[str, Tensor]  # the terms that the loss was made of
    actions: Actions
    statistics: dict[str, Tensor]  # scalars, still on the device


class Update(Protocol):
    """What an algorithm does with a rollout; made once per run.

    `optimizers` and `numbers` are what a checkpoint keeps of it: the averages of the optimisers,
    and coefficients that change over the run.
    """

    optimizers: list[Optimizer]
    numbers: dict[str, float]

    # experience: an Experience, or for those that learn from pairs a sequence of PairBatch
    def __call__(self, experience: Any, *, learning_rate: float, where: str) -> Updated: ...

    def look_back(self, kl_old_to_policy: float) -> None:
        """Told how far the update has gone, in nats per token, when it is over."""


Weights = Callable[[Tensor, Tensor | None, Tensor, PPOConfig], Tensor]
MakeUpdate = Callable[[Models, PPOConfig, torch.Generator], Update]
ROLLOUTS, PAIRS = "rollouts", "pairs"


class PairBatch(NamedTuple):
    """Responses to some prompts, K to each, and which of two is better; for one optimiser step."""

    responses: Responses  # [N*K] rows, those to a prompt are neighbours
    labels: Tensor  # [N,pairs] int64: 1 first preferred, -1 second preferred, 0 not compared
    ref_logprobs: Tensor  # [N,K] of the reference, summed over the response
    price: float  # of a nat of KL to the reference


def equal_ranges(config: PPOConfig) -> tuple[float, float]:
    """The ratio is held within 1 - cliprange and 1 + cliprange."""
    return config.cliprange, config.cliprange


@dataclass(frozen=True)
class Algorithm:
    """One algorithm. See the module's docstring; `summary` is its line in a list."""

    name: str
    summary: str
    weights: Weights  # (rewards, old_values, response_mask, config) -> [B,T]
    update: MakeUpdate
    has_critic: bool = True
    samples_per_prompt: int = 1  # responses to each prompt, unless the setting says otherwise
    settings: Mapping[str, Any] = field(default_factory=dict)  # where its defaults differ
    fields: tuple[str, ...] = ()  # of the settings that not every algorithm reads, those it does
    ignores: Mapping[str, str] = field(default_factory=dict)  # of what all others read -> why not
    numbers: tuple[str, ...] = ()  # settings that it starts from and then changes itself
    silent_diagnostics: tuple[str, ...] = ()  # codes that have no meaning for it
    learns_from: str = ROLLOUTS  # or PAIRS: then its rollouts are looked at and no more
    needs_scores: bool = True  # a score function takes part in the training
    drops_equal_groups: bool = False  # groups of equal scores make room for other prompts
    kl_loss: str = "k2_response"  # the form of the KL in its loss, with --kl_in loss
    # how far below and above 1 the ratio is held; None where it is not held so
    ranges: Callable[[PPOConfig], tuple[float, float]] | None = equal_ranges

    def samples(self, config: PPOConfig) -> int:
        """Responses to each prompt of a rollout."""
        return config.samples_per_prompt or self.samples_per_prompt


# -- what several updates are made of


def of_the_critic(given: Given | None) -> Given:
    """The critic or what it has said, for an algorithm that has one."""
    if given is None:
        raise ValueError("the algorithm needs a critic, and there is none")
    return given


def adam(config: PPOConfig, **models: torch.nn.Module) -> Optimizer:
    """One optimiser for what is trained of these models; its parameters are named
    "policy.wte.weight" and so on.

    eps as in the PPO implementations of OpenAI: it keeps the steps small where the gradients are
    tiny.
    """
    named = {id(parameter): (name, parameter) for name, parameter in named_weights(**models)[::-1]}
    each_once = list(named.values())[::-1]  # a trunk that two models share is the first one's
    return torch.optim.Adam(each_once, lr=config.learning_rate, eps=1e-5, fused=True)


def minibatches(
    experience: Experience, config: PPOConfig, generator: torch.Generator
) -> Iterator[Experience]:
    """The rows of a rollout in num_mini_batches parts, in a new order; fewer where it has fewer
    rows."""
    mask = experience.rollout.response_mask
    order = torch.randperm(len(mask), generator=generator, device=mask.device)
    parts = order.tensor_split(min(config.num_mini_batches, len(order)))
    return map(experience.rows, parts)


@dataclass(frozen=True)
class Passes:
    """num_ppo_epochs passes of minibatches over one rollout, an optimiser step on each."""

    optimizers: list[Optimizer]
    config: PPOConfig
    generator: torch.Generator

    def __call__(
        self,
        experience: Experience,
        step_on: Callable[[Experience], Step],
        *,
        learning_rate: float,
        where: str,
        is_enough: Callable[[Step], bool] = lambda last_of_a_pass: False,
    ) -> Updated:
        """step_on says what is minimised on a minibatch."""
        config, steps, norms = self.config, [], []
        for _ in range(config.num_ppo_epochs):
            for batch in minibatches(experience, config, self.generator):
                step = step_on(batch)
                steps.append(step.statistics)
                norm = take_step(
                    self.optimizers,
                    step.loss,
                    learning_rate,
                    where=where,
                    max_grad_norm=config.max_grad_norm,
                    parts=step.parts,
                )
                norms.append(norm)
            if is_enough(step):
                break
        metrics = metrics_of_steps(steps)
        metrics["policy/grad_norm"] = sum(norms) / len(norms)
        return Updated(metrics, ratios_and_advantages(step.actions))


def whitened(advantages: Tensor, mask: Tensor, config: PPOConfig) -> Tensor:
    """The advantages with mean 0 and standard deviation 1 over the actions, as they are where they
    are all equal.

    Where the whole response is the action, it counts once and not once per token.
    """
    if config.action == "response":
        once = whitened(advantages[:, :1], mask[:, :1], replace(config, action="token"))
        return zero_padding(values=once.expand_as(advantages), mask=mask)
    if masked_variance(values=advantages, mask=mask) <= DEGENERATE:
        return advantages
    if not config.whiten_bessel:
        return whiten(values=advantages, mask=mask)
    n = int(mask.sum())
    return whiten(values=advantages, mask=mask) * ((n - 1) / n) ** 0.5


def actions_of(logprobs: Tensor, batch: Experience, config: PPOConfig) -> Actions:
    """What a surrogate reads: of each token, [B,T]; or, where the response is the action, the sums
    over its tokens, [B,1]."""
    rollout, mask = batch.rollout, batch.rollout.response_mask
    advantages = batch.advantages
    if config.whiten_advantages and config.whiten_over == "minibatch":
        advantages = whitened(advantages, mask, config)
    old_logprobs = rollout.old_logprobs
    if config.action == "response":
        logprobs, old_logprobs = (
            zero_padding(values=x, mask=mask).sum(dim=1, keepdim=True)
            for x in (logprobs, old_logprobs)
        )
        advantages, mask = advantages[:, :1], mask[:, :1]
        rows_are_as_good(mask, rollout.response_mask)
    return {
        "logprobs": logprobs,
        "old_logprobs": old_logprobs,
        "advantages": advantages,
        "response_mask": mask,
    }


@torch.no_grad()
def step_statistics(
    actions: Actions, logits: Tensor, rollout: Rollout, policy_loss: Tensor, config: PPOConfig
) -> dict[str, Tensor]:
    """What the policy looked like before a step: scalars, still on the device."""
    data = actions | {"logprobs": actions["logprobs"].detach()}
    entropy = token_entropy(logits=logits)
    return ratio_statistics(**data, cliprange=config.cliprange) | {
        "loss/policy_avg": policy_loss,
        "policy/entropy_avg": masked_mean(values=entropy, mask=rollout.response_mask),
    }


def metrics_of_steps(steps: list[dict[str, Tensor]]) -> dict[str, float | None]:
    """The mean of each statistic over the steps, read from the device once; of what is watched at
    the first step only, what it was there."""
    table = torch.stack([torch.stack([x.detach() for x in step.values()]) for step in steps])
    columns = dict(zip(steps[0], zip(*table.double().tolist(), strict=True), strict=True))
    return {
        AT_THE_FIRST_STEP.get(name, name): column[0]
        if name in AT_THE_FIRST_STEP
        else sum(column) / len(steps)
        for name, column in columns.items()
    }


@torch.no_grad()
def tokens_after(policy: GPT, batch: Experience, config: PPOConfig) -> dict[str, list[float]]:
    """The ratios after the update, and the advantages, of the actions of the rollout."""
    logits = response_logits(policy, batch.rollout, config.temperature)
    logprobs = response_logprobs(logits, batch.rollout)
    return ratios_and_advantages(actions_of(logprobs, batch, config))


def ratios_and_advantages(actions: Actions) -> dict[str, list[float]]:
    """The same of actions that are at hand."""
    mask = actions["response_mask"]
    logprobs, old_logprobs = actions["logprobs"].detach(), actions["old_logprobs"]
    ratios = token_ratios(logprobs=logprobs, old_logprobs=old_logprobs, response_mask=mask)
    both = torch.stack((ratios, actions["advantages"]))[:, mask].tolist()  # [2,B,T] -> two lists
    return {"ratios": both[0], "advantages": both[1]}
