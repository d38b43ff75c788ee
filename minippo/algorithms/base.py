"""What an algorithm is: one record of the few things in which the algorithms differ.

    weights   what each token of a rollout was worth: stages 1 to 4 of the derivation
    update    what is done with that: one step of the policy gradient, one of TRPO, passes of PPO

Where there is a critic, its targets are weights + values, so the weights must be estimates of the
advantage; an algorithm that changes their scale (takes their sign, say) does that in its update.

Nothing else knows an algorithm by its name. The rest of the record says what follows from the two:
whether there is a critic, which settings are read, which diagnostics have no meaning.
`minippo.algorithms` lists the records; CONTRIBUTING.md adds one in ten lines.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from minippo.gpt import GPT
from minippo.logprobs import token_entropy, token_ratios
from minippo.masked import masked_mean
from minippo.ppo_statistics import ratio_statistics
from minippo.rollout import Models, Rollout, response_logits, response_logprobs
from minippo.settings import Checked, count, positive, setting
from minippo.stages.optimise import named_weights

Given = TypeVar("Given")
# a statistic of a step that tells something at the first step of an update only -> its metric
AT_THE_FIRST_STEP = {"ratio_max_deviation": "val/ratio_max_deviation_first"}


@dataclass(frozen=True)
class PPOConfig(Checked):
    """The policy's training. An algorithm's record lists those that only some algorithms read."""

    num_updates: int = count(30, "rollouts, each followed by num_ppo_epochs over it")
    batch_size: int = count(128, "responses per rollout")
    num_ppo_epochs: int = count(4, "passes over a rollout")
    value_epochs: int = count(4, "passes of the critic over a rollout")
    num_mini_batches: int = count(2, "optimiser steps per pass")
    response_length: int = count(14, "the most tokens of a response, EOS included", high=4096)
    temperature: float = positive(1.0, "of sampling, and of every log-probability")
    learning_rate: float = positive(
        6e-4, "at the start; falls linearly to final_learning_rate of it (trpo: the critic's)"
    )
    final_learning_rate: float = setting(
        0.1, "share of the learning rate left at the last update", low=0.0, high=1.0
    )
    kl_coef: float = positive(0.05, "price of a nat of KL to the fine-tuned model")
    gamma: float = setting(1.0, "discount", low=0.0, high=1.0)
    lam: float = setting(0.95, "GAE's lambda", low=0.0, high=1.0)
    cliprange: float = positive(0.2, "of the ratio")
    cliprange_value: float = positive(0.2, "of the values")
    kl_old_coef: float = positive(
        1.0, "price of a nat of KL from the old policy, per token; adaptive: at the start"
    )
    kl_old_target: float = positive(
        0.03, "the KL from the old policy per token that an update aims at"
    )
    max_kl: float = positive(0.03, "TRPO's delta: the most KL from the old policy per token")
    damping: float = setting(0.5, "added to the diagonal of the Fisher matrix", low=0.0)
    cg_iterations: int = count(6, "of conjugate gradient")
    vf_coef: float = setting(0.1, "weight of the value loss", low=0.0)
    ent_coef: float = setting(0.0, "weight of the entropy bonus", low=0.0)
    max_grad_norm: float = positive(1.0, "gradients are scaled down to this norm")
    whiten_advantages: bool = setting(True, "mean 0 and standard deviation 1 over the rollout")
    whiten_rewards: bool = setting(False, "standard deviation 1 over the rollout, the mean is kept")
    no_eos_score: float | None = setting(
        -5.0, "score of a response without EOS; none: the reward model's own", low=-1e6, high=1e6
    )
    missing_eos_penalty: float = setting(
        0.0, "subtracted from the score of a response without EOS", low=0.0
    )
    target_kl: float | None = setting(
        None,
        "stop the passes when approxkl of a pass's last minibatch, to the old policy, is above; "
        "none: never",
        low=0.0,
        open_low=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_mini_batches > self.batch_size:
            raise ValueError(
                f"num_mini_batches: wanted at most batch_size {self.batch_size}, "
                f"got {self.num_mini_batches}"
            )


class Experience(NamedTuple):
    """A rollout, and what is to be learned from it."""

    rollout: Rollout
    advantages: Tensor  # [B,T] the algorithm's weights
    targets: Tensor | None  # [B,T] what the critic should have said; None where there is none

    def rows(self, index: Tensor) -> "Experience":
        """The same of some rows, as short as the longest of them: a minibatch."""
        rollout = self.rollout.rows(index).trimmed()
        T = rollout.response_mask.shape[1]
        targets = None if self.targets is None else self.targets[index, :T]
        return Experience(rollout, self.advantages[index, :T], targets)


class Updated(NamedTuple):
    """What came of it."""

    metrics: dict[str, float | None]  # means over the optimiser steps, each taken before its step
    tokens: dict[str, list[float]]  # "ratios", "advantages" of real tokens


class Update(Protocol):
    """What an algorithm does with a rollout; made once per run.

    `optimizers` and `numbers` are what a checkpoint keeps of it: the averages of the optimisers,
    and coefficients that change over the run.
    """

    optimizers: list[Optimizer]
    numbers: dict[str, float]

    def __call__(self, experience: Experience, *, learning_rate: float, where: str) -> Updated: ...

    def look_back(self, kl_old_to_policy: float) -> None:
        """Told how far the update has gone, in nats per token, when it is over."""


Weights = Callable[[Tensor, Tensor | None, Tensor, PPOConfig], Tensor]
MakeUpdate = Callable[[Models, PPOConfig, torch.Generator], Update]


@dataclass(frozen=True)
class Algorithm:
    """One algorithm. See the module's docstring; `summary` is its line in a list."""

    name: str
    summary: str
    weights: Weights  # (rewards, old_values, response_mask, config) -> [B,T]
    update: MakeUpdate
    has_critic: bool = True
    samples_per_prompt: int = 1  # responses to each prompt, in neighbouring rows of the rollout
    settings: Mapping[str, Any] = field(default_factory=dict)  # where its defaults differ
    fields: tuple[str, ...] = ()  # of the settings that not every algorithm reads, those it does
    numbers: tuple[str, ...] = ()  # settings that it starts from and then changes itself
    silent_diagnostics: tuple[str, ...] = ()  # codes that have no meaning for it


# -- what several updates are made of


def of_the_critic(given: Given | None) -> Given:
    """The critic or what it has said, for an algorithm that has one."""
    if given is None:
        raise ValueError("the algorithm needs a critic, and there is none")
    return given


def adam(config: PPOConfig, **models: torch.nn.Module) -> Optimizer:
    """One optimiser for these models; its parameters are named "policy.wte.weight" and so on.

    eps as in the PPO implementations of OpenAI: it keeps the steps small where the gradients are
    tiny.
    """
    return torch.optim.Adam(named_weights(**models), lr=config.learning_rate, eps=1e-5, fused=True)


def minibatches(
    experience: Experience, config: PPOConfig, generator: torch.Generator
) -> Iterator[Experience]:
    """The rows of a rollout in num_mini_batches parts, in a new order."""
    mask = experience.rollout.response_mask
    order = torch.randperm(len(mask), generator=generator, device=mask.device)
    return map(experience.rows, order.tensor_split(config.num_mini_batches))


@torch.no_grad()
def step_statistics(
    batch: Experience, logits: Tensor, logprobs: Tensor, policy_loss: Tensor, config: PPOConfig
) -> dict[str, Tensor]:
    """What the policy looked like before a step: scalars, still on the device."""
    rollout, advantages, _ = batch
    mask = rollout.response_mask
    statistics = ratio_statistics(
        logprobs=logprobs.detach(),
        old_logprobs=rollout.old_logprobs,
        advantages=advantages,
        response_mask=mask,
        cliprange=config.cliprange,
    )
    return statistics | {
        "loss/policy_avg": policy_loss,
        "policy/entropy_avg": masked_mean(values=token_entropy(logits=logits), mask=mask),
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
    """The ratios after the update, and the advantages, of the real tokens of the rollout."""
    logits = response_logits(policy, batch.rollout, config.temperature)
    return ratios_and_advantages(response_logprobs(logits, batch.rollout), batch)


def ratios_and_advantages(logprobs: Tensor, batch: Experience) -> dict[str, list[float]]:
    """The same from log-probabilities that are at hand."""
    mask = batch.rollout.response_mask
    ratios = token_ratios(
        logprobs=logprobs, old_logprobs=batch.rollout.old_logprobs, response_mask=mask
    )
    both = torch.stack((ratios, batch.advantages))[:, mask].tolist()  # [2,B,T] -> two lists
    return {"ratios": both[0], "advantages": both[1]}
