"""The stages of the ladder and PPO's relatives as records that the enumeration can read.

Each says where its advantages come from, which of the product's losses takes them, and where its
KL is as published. Critic methods have the exact V of the rewards that they see.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from minippo.exact.groups import Groups, Loss, Problem, mean_gradient, token_factors
from minippo.exact.oracle import values_and_action_values
from minippo.exact.world import World
from minippo.gae import gae_advantages
from minippo.kl import kl_k2, kl_k3
from minippo.masked import MINIMUM_STD, zero_padding
from minippo.policy_gradient import policy_gradient_loss, trajectory_returns
from minippo.ppo import clipped_surrogate_loss
from minippo.relatives import groups as relative
from minippo.relatives import ratios, reductions
from minippo.reward_to_go import rewards_to_go
from minippo.trpo import surrogate_loss

LAM = 0.95
KL_LOSSES = {"k2": kl_k2, "k3": kl_k3}  # per token, with the reduction of the loss


@dataclass(frozen=True)
class Seen:
    """What the advantages are made from: a world whose rewards are those that the method sees, the
    policy in it, and the groups."""

    world: World
    logits: Tensor
    groups: Groups


Advantages = Callable[[Seen], Tensor]  # -> [n,G,T]; what stands in the padding does not matter


@dataclass(frozen=True)
class Method:
    """One way to learn from a group of responses."""

    name: str
    advantages: Advantages
    loss: Loss
    free: Loss | None = None  # the loss without its clip; None where there is one step per batch
    per_row: bool = False  # the loss wants one advantage per response
    kl: str = "reward"  # the KL as published: "reward", "none", or in the loss, by KL_LOSSES
    critic: bool = True


def seen_world(problem: Problem, logits: Tensor, kl: str) -> World:
    """The world with the rewards that a method sees: the scores, minus the price of k1 or not."""
    if kl != "reward":
        return problem.world
    world = copy.copy(problem.world)
    log_ratios = logits.log_softmax(-1) - problem.ref_logits.log_softmax(-1)
    world.rewards = world.rewards - problem.kl_coef * log_ratios
    chosen = world.rewards[world.state_index, world.response_tokens]
    world.response_rewards = zero_padding(values=chosen, mask=world.response_mask)
    return world


class Estimator:
    """Minus the gradient of a method's first step to the log-probabilities of each group."""

    def __init__(self, problem: Problem, method: Method, groups: Groups, kl: str) -> None:
        self.problem, self.method, self.groups, self.kl = problem, method, groups, kl
        self.factors = token_factors(groups, method.loss, method.per_row)

    def __call__(self, logits: Tensor) -> Tensor:
        """[n,G,T] at a policy [K,V]."""
        problem, groups = self.problem, self.groups
        seen = Seen(seen_world(problem, logits, self.kl), logits, groups)
        advantages = self.method.advantages(seen)
        if self.kl in KL_LOSSES:
            slopes = kl_slopes(problem, logits, KL_LOSSES[self.kl])
            advantages = advantages - problem.kl_coef * slopes[groups.rows]
        return torch.where(groups.mask, advantages * self.factors, 0.0)

    def step(self, logits: Tensor) -> Tensor:
        """The mean field G: the exact mean of it by the logits, [K,V]."""
        return mean_gradient(self.groups, self.groups.probabilities(logits), logits, self(logits))

    @property
    def scale(self) -> float:
        """The largest weight of a token of a response per unit of advantage."""
        return self.factors.max().item() * self.groups.size


def kl_slopes(problem: Problem, logits: Tensor, estimator: Callable[..., Tensor]) -> Tensor:
    """The derivative of an estimate of the KL to each token's log-probability, [N,T]."""
    world = problem.world
    logprobs = world.logprobs(logits).detach().requires_grad_()
    estimate = estimator(logprobs=logprobs, ref_logprobs=world.logprobs(problem.ref_logits))
    return torch.autograd.grad(estimate.sum(), logprobs)[0]


# -- advantages


def in_groups(function: Callable[..., Tensor]) -> Advantages:
    """One of minippo.relatives.groups, on all groups at once."""

    def advantages(seen: Seen) -> Tensor:
        rows = seen.groups.rows
        scores = seen.world.response_rewards.sum(dim=1)[rows].flatten()
        values = function(scores=scores, group_size=rows.shape[1]).view(rows.shape)
        return values.unsqueeze(2).expand(seen.groups.mask.shape)

    return advantages


def alone(function: Callable[[World, Tensor], Tensor]) -> Advantages:
    """What belongs to a response whatever the others are: function(world, values) -> [N,T]."""

    def advantages(seen: Seen) -> Tensor:
        values, _ = values_and_action_values(seen.world, seen.logits)
        return function(seen.world, seen.world.along_responses(values))[seen.groups.rows]

    return advantages


def whitened(advantages: Advantages) -> Advantages:
    """These over the tokens of each group as in (0.5); 0 where they have no spread."""

    def white(seen: Seen) -> Tensor:
        mask, number = seen.groups.mask, seen.groups.mask.sum(dim=(1, 2), keepdim=True)
        values = torch.where(mask, advantages(seen), 0.0)
        centred = torch.where(mask, values - values.sum((1, 2), keepdim=True) / number, 0.0)
        std = ((centred**2).sum(dim=(1, 2), keepdim=True) / number).sqrt()
        return torch.where(std >= MINIMUM_STD, centred / std.clamp(min=MINIMUM_STD), 0.0)

    return white


def whole(world: World, values: Tensor) -> Tensor:
    return trajectory_returns(
        rewards=world.response_rewards, response_mask=world.response_mask, gamma=1.0
    )


def to_go(world: World, values: Tensor) -> Tensor:
    return rewards_to_go(
        rewards=world.response_rewards, response_mask=world.response_mask, gamma=1.0
    )


def against_values(world: World, values: Tensor) -> Tensor:
    return to_go(world, values) - values


def gae(world: World, values: Tensor) -> Tensor:
    return gae_advantages(
        rewards=world.response_rewards,
        values=values,
        response_mask=world.response_mask,
        gamma=1.0,
        lam=LAM,
    )


# -- losses, as functions of (logprobs, old_logprobs, advantages, response_mask)


def weighted_logprobs(**batch: Tensor) -> Tensor:
    """Stages 1 to 4: the old policy plays no part."""
    return policy_gradient_loss(
        logprobs=batch["logprobs"],
        weights=batch["advantages"],
        response_mask=batch["response_mask"],
    )


def ppo_loss(**batch: Tensor) -> Tensor:
    return clipped_surrogate_loss(**batch, cliprange=0.2)


def per_response(loss: Loss) -> Loss:
    """A mean per response of a loss that is a mean over tokens."""
    return lambda **batch: _reduced(loss, batch, "sequence_mean")


def over_constant(loss: Loss) -> Loss:
    """Its sum over a constant."""
    return lambda **batch: _reduced(loss, batch, "constant_mean")


def _reduced(loss, batch, reduction):
    mask = batch["response_mask"]
    factors = reductions.token_factors(
        response_mask=mask, reduction=reduction, length=mask.shape[1]
    )
    return loss(**batch | {"advantages": batch["advantages"] * factors.double()})


def sequence_loss(cliprange: float) -> Loss:
    return partial(ratios.sequence_surrogate_loss, cliprange=cliprange)


def two_ranges(loss: Loss, low: float, high: float) -> Loss:
    return partial(loss, cliprange_low=low, cliprange_high=high)


def cispo_loss(ratio_max: float) -> Loss:
    return partial(ratios.cispo_loss, ratio_max=ratio_max)


# -- the methods

INF = float("inf")
STANDARDISED = in_groups(relative.standardised_advantages)
METHODS = (
    Method("pg", alone(whole), weighted_logprobs, critic=False),
    Method("rtg", alone(to_go), weighted_logprobs, critic=False),
    Method("baseline", alone(against_values), weighted_logprobs),
    Method("gae", alone(gae), weighted_logprobs),
    Method("trpo", alone(gae), surrogate_loss, free=surrogate_loss),
    Method("ppo, not whitened", alone(gae), ppo_loss, free=surrogate_loss),
    Method("ppo", whitened(alone(gae)), ppo_loss, free=surrogate_loss),
    Method(
        "rloo",
        in_groups(relative.leave_one_out_advantages),
        sequence_loss(0.2),
        free=sequence_loss(INF),
        per_row=True,
        critic=False,
    ),
    Method(
        "grpo",
        STANDARDISED,
        per_response(ppo_loss),
        free=per_response(surrogate_loss),
        kl="k3",
        critic=False,
    ),
    Method(
        "dr_grpo",
        in_groups(relative.centred_advantages),
        over_constant(ppo_loss),
        free=over_constant(surrogate_loss),
        kl="none",
        critic=False,
    ),
    Method(
        "dapo",
        STANDARDISED,
        two_ranges(ratios.asymmetric_clipped_surrogate_loss, 0.2, 0.28),
        free=surrogate_loss,
        kl="none",
        critic=False,
    ),
    Method(
        "gspo",
        STANDARDISED,
        two_ranges(ratios.gspo_surrogate_loss, 3e-4, 4e-4),
        free=two_ranges(ratios.gspo_surrogate_loss, INF, INF),
        per_row=True,
        kl="none",
        critic=False,
    ),
    Method("cispo", STANDARDISED, cispo_loss(1.28), free=cispo_loss(INF), kl="none", critic=False),
)
