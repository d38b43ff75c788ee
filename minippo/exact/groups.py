"""All groups of G responses, and what a method's first step does with them on average.

A group is drawn from the policy, each response on its own, so what is the same but for its order
has the multinomial probability: 15 responses make 3,060 groups of 4 in the place of 50,625. All of
them go through the functions of minippo.relatives in one call.

At the first step every ratio is 1, so the gradient of a loss to the log-probability of a token is
the token's advantage times a factor that depends on the lengths in the group only. The factor is
asked of the loss itself, with advantages of 1.

Shapes: n groups of G, N responses, T slots, K states, V vocabulary.
"""

import copy
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minippo.exact.oracle import optimal_policy, response_probabilities, sequence_kl
from minippo.exact.world import World

Loss = Callable[..., Tensor]  # (logprobs, old_logprobs, advantages, response_mask) -> scalar


@dataclass(frozen=True)
class Problem:
    """What is to be learned: a world whose rewards are the scores, a reference, and a price."""

    world: World
    ref_logits: Tensor  # [K,V]
    kl_coef: float

    @property
    def scores(self) -> Tensor:
        """The score of every response, [N]."""
        return self.world.response_rewards.sum(dim=1)

    def best(self) -> Tensor:
        """pi*, as logits [K,V]."""
        return optimal_policy(self.world, self.ref_logits, self.kl_coef)[0]

    def objective(self, logits: Tensor, kl_coef: float | None = None) -> Tensor:
        """E[score] - kl_coef KL(policy || reference)."""
        price = self.kl_coef if kl_coef is None else kl_coef
        expected = (response_probabilities(self.world, logits) * self.scores).sum()
        return expected - price * sequence_kl(self.world, logits, self.ref_logits)


def make_problem(seed: int, kl_coef: float = 0.5) -> Problem:
    """One prompt, three tokens, at most three steps: 15 responses with random scores."""
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[tuple[int, ...], float] = {}

    def score(prompt: int, tokens: tuple[int, ...]) -> float:
        if tokens[-1] != 0 and len(tokens) < 3:
            return 0.0
        draw = torch.randn((), generator=generator, dtype=torch.float64).item()
        return numbers.setdefault(tokens, draw)

    world = World(score)
    shape = (len(world.states), world.vocab_size)
    return Problem(world, torch.randn(shape, generator=generator, dtype=torch.float64), kl_coef)


def make_bandit(scores: list[float], ref: list[float], kl_coef: float) -> Problem:
    """One state: a response is one token, and a reference of these probabilities."""
    world = World(
        lambda prompt, tokens: scores[tokens[0]],
        vocab_size=len(scores),
        response_length=1,
        has_eos=False,
    )
    return Problem(world, torch.tensor([ref], dtype=torch.float64).log(), kl_coef)


def with_scores(problem: Problem, scores: Tensor) -> Problem:
    """The same problem with other scores of the responses, [N]."""
    world = copy.copy(problem.world)
    rows, last = torch.arange(len(scores)), world.response_mask.sum(dim=1) - 1
    world.response_rewards = torch.zeros_like(world.response_rewards)
    world.response_rewards[rows, last] = scores
    world.rewards = torch.zeros_like(world.rewards)
    world.rewards[world.state_index[rows, last], world.response_tokens[rows, last]] = scores
    return replace(problem, world=world)


@dataclass(frozen=True)
class Groups:
    """All groups without their order."""

    world: World
    rows: Tensor  # [n,G] int64, the responses of each group
    log_orders: Tensor  # [n] log of the number of orders

    @functools.cached_property
    def size(self) -> int:
        return self.rows.shape[1]

    @functools.cached_property
    def mask(self) -> Tensor:
        """[n,G,T]."""
        return self.world.response_mask[self.rows]

    @functools.cached_property
    def cells(self) -> Tensor:
        """The place of each token and its state in a table of logits that is flat, [n,G,T]."""
        world = self.world
        return (world.state_index * world.vocab_size + world.response_tokens)[self.rows]

    def probabilities(self, logits: Tensor) -> Tensor:
        """[n], of sum 1."""
        log_p = self.world.logprobs(logits).sum(dim=1)
        return (self.log_orders + log_p[self.rows].sum(dim=1)).exp()


def all_groups(world: World, size: int) -> Groups:
    """Every multiset of `size` responses of a world with one prompt."""
    rows = list(itertools.combinations_with_replacement(range(len(world.response_tokens)), size))
    orders = [
        math.lgamma(size + 1) - sum(math.lgamma(len(list(same)) + 1) for _, same in by_value)
        for by_value in map(itertools.groupby, rows)
    ]
    return Groups(world, torch.tensor(rows), torch.tensor(orders, dtype=torch.float64))


def loss_gradients(groups: Groups, loss: Loss, batch: dict[str, Tensor], per_row: bool) -> Tensor:
    """Minus the gradient of the loss of each group to its log-probabilities, [n,G,T].

    batch: logprobs, old_logprobs [N,T], advantages [n,G,T] (of each row's first slot if per_row:
    the loss wants one per response). Groups with equally many tokens are one batch: then a mean
    over its tokens is the mean over its groups, as every other mean is.
    """
    tokens, gradients = groups.mask.sum(dim=(1, 2)), torch.zeros(groups.mask.shape).double()
    for number in tokens.unique():
        chosen = tokens == number
        rows = groups.rows[chosen].flatten()
        logprobs = batch["logprobs"][rows].detach().requires_grad_()
        advantages = batch["advantages"][chosen].flatten(0, 1)
        value = loss(
            logprobs=logprobs,
            old_logprobs=batch["old_logprobs"][rows],
            advantages=advantages[:, 0] if per_row else advantages,
            response_mask=groups.world.response_mask[rows],
        )
        (gradient,) = torch.autograd.grad(value, logprobs)
        gradients[chosen] = -int(chosen.sum()) * gradient.view(-1, *gradients.shape[1:])
    return gradients


def token_factors(groups: Groups, loss: Loss, per_row: bool) -> Tensor:
    """The same at ratios of 1 and advantages of 1: what a token's advantage is multiplied by."""
    zeros = torch.zeros(groups.world.response_mask.shape, dtype=torch.float64)
    ones = torch.ones(groups.mask.shape, dtype=torch.float64)
    batch = {"logprobs": zeros, "old_logprobs": zeros, "advantages": ones}
    return loss_gradients(groups, loss, batch, per_row)


def group_gradients(groups: Groups, logits: Tensor, to_logprobs: Tensor) -> Tensor:
    """The gradient to the logits, [n,K V], that each group's gradient to its log-probabilities
    [n,G,T] makes: the one-hot of a token minus the policy in its state."""
    chosen = torch.where(groups.mask, to_logprobs, 0.0).flatten(1)
    by_cell = torch.zeros(len(chosen), logits.numel(), dtype=torch.float64)
    by_cell = by_cell.scatter_add(1, groups.cells.flatten(1), chosen)
    return _to_logits(by_cell.view(-1, *logits.shape), logits).flatten(1)


def mean_gradient(groups: Groups, p: Tensor, logits: Tensor, to_logprobs: Tensor) -> Tensor:
    """Its mean over groups of probabilities p [n], as [K,V]: the sum is taken first."""
    weighted = torch.where(groups.mask, p.view(-1, 1, 1) * to_logprobs, 0.0).flatten()
    by_cell = torch.zeros(logits.numel(), dtype=torch.float64)
    by_cell = by_cell.index_add(0, groups.cells.flatten(), weighted)
    return _to_logits(by_cell.view_as(logits), logits)


def _to_logits(by_cell, logits):
    return by_cell - torch.softmax(logits, dim=-1) * by_cell.sum(dim=-1, keepdim=True)
