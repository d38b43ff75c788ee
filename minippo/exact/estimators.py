"""The exact mean and covariance of a gradient estimator, by listing all that can be sampled.

An estimator is a loss on a batch of responses; minus its gradient estimates grad J. One trajectory
is sampled with probability p(tau), so mean and covariance are sums over the responses. A batch of n
independent ones has the same mean and 1/n of the covariance. Estimators that couple the rows of a
batch (the batch mean, leave-one-out, whitening, a mean over the tokens of all rows) are listed over
all batches of 2 or 3, with probability p(tau_1) p(tau_2) ...
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minippo.exact.oracle import (
    reach_probabilities,
    response_probabilities,
    score_vectors,
    values_and_action_values,
)
from minippo.exact.world import World


@dataclass(frozen=True)
class Batch:
    """What a loss may look at: [B,T] tensors. logprobs require grad; at theta_old they equal
    old_logprobs."""

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    rewards: torch.Tensor
    values: torch.Tensor
    response_mask: torch.Tensor


def gradient_samples(
    world: World,
    policy: nn.Module,
    loss: Callable[[Batch], Tensor],
    *,
    values: Tensor | None = None,
    size: int = 1,
) -> tuple[Tensor, Tensor]:
    """(probabilities [n], gradients [n,D]) of -grad loss(batch) for every batch of `size`
    responses.

    values: a critic's value of every state, [K]; zeros when None. The loss sees a Batch.
    """
    with torch.no_grad():
        logits = policy()
        logprobs, probabilities = world.logprobs(logits), response_probabilities(world, logits)
    scores = score_vectors(policy)[world.state_index, world.response_tokens]  # [N,T,D]
    # after the end nothing is chosen
    scores = torch.where(world.response_mask.unsqueeze(-1), scores, 0.0)
    values = world.along_responses(
        torch.zeros(len(world.states)).double() if values is None else values
    )
    weights, gradients = [], []
    for rows in itertools.product(range(len(probabilities)), repeat=size):
        rows = list(rows)
        current, mask = logprobs[rows].requires_grad_(), world.response_mask[rows]
        batch = Batch(current, logprobs[rows], world.response_rewards[rows], values[rows], mask)
        (to_logprobs,) = torch.autograd.grad(loss(batch), current)  # [size,T]
        # chain rule: d log pi / d theta
        gradients.append(-torch.einsum("bt,btd->d", to_logprobs, scores[rows]))
        weights.append(probabilities[rows].prod())
    return torch.stack(weights), torch.stack(gradients)


def mean_and_covariance(probabilities: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Exact mean [D] and covariance [D,D] of samples [n,D] that come with these probabilities
    [n]."""
    mean = probabilities @ samples
    centred = samples - mean
    return mean, (probabilities.unsqueeze(1) * centred).T @ centred


def bias_and_variance(
    world: World,
    policy: nn.Module,
    loss: Callable[[Batch], Tensor],
    exact: Tensor,
    *,
    values: Tensor | None = None,
    size: int = 1,
) -> tuple[float, float]:
    """(max abs difference of the mean from the exact gradient, total variance per trajectory) of an
    estimator.

    The total variance is the trace of the covariance, times `size`: what a batch of n has is this
    over n.
    """
    mean, covariance = mean_and_covariance(
        *gradient_samples(world, policy, loss, values=values, size=size)
    )
    return (mean - exact).abs().max().item(), size * covariance.trace().item()


def advantage_errors(
    world: World, logits: Tensor, estimates: Tensor, gamma: float = 1.0
) -> dict[str, float]:
    """How far estimates [N,T] of the advantage are from A = Q - V, over all (state, token) as the
    policy visits them.

    With m(s,a) the mean of the estimate given s and a, and every mean below over d(s) pi(a|s):

        bias       sqrt(mean (m - A)^2)
        tilt       the same after taking from m - A its mean over the tokens of the state: what
                   remains can bias a gradient
        variance   mean of the estimate's variance given s and a
    """
    values, action_values = values_and_action_values(world, logits, gamma)
    probabilities = response_probabilities(world, logits)
    pi = torch.softmax(logits, dim=-1)
    visits = reach_probabilities(world, logits).unsqueeze(1) * pi  # [K,V] d(s) pi(a|s)

    def given_state_and_token(x: Tensor) -> Tensor:
        """Conditional mean of x [N,T], [K,V]."""
        cell = (world.state_index * world.vocab_size + world.response_tokens)[world.response_mask]
        mass = (probabilities.unsqueeze(1) * x)[world.response_mask]
        return (
            torch.zeros(visits.numel()).double().index_add(0, cell, mass).view_as(visits) / visits
        )

    mean = given_state_and_token(estimates)
    variance = given_state_and_token(estimates**2) - mean**2
    error = mean - (action_values - values.unsqueeze(1))
    tilt = error - (pi * error).sum(dim=1, keepdim=True)
    share = visits / visits.sum()
    return {
        "bias": (share * error**2).sum().sqrt().item(),
        "tilt": (share * tilt**2).sum().sqrt().item(),
        "variance": (share * variance).sum().clamp(min=0).item(),
    }
