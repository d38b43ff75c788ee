"""Bias and variance of a method's step, in numbers that a factor in front of it cannot change; and
whom the step favours.

With m the exact mean of the estimate and g the right gradient, c = m.g / g.g is how much of g is in
m. bias = |m - c g| / |c g|; variance = responses times the trace of the covariance, over c^2: what
one response would have whose mean is g.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exact.ends import natural
from minippo.exact.groups import (
    Groups,
    Loss,
    Problem,
    group_gradients,
    loss_gradients,
    mean_gradient,
    with_scores,
)
from minippo.exact.methods import Estimator, Method, Seen
from minippo.exact.oracle import response_probabilities, sequence_kl

DISTANCE = 0.05  # nats per response between the policy that sampled and the one that learns


def along(mean: Tensor, right: Tensor) -> dict[str, float]:
    """{"factor": c, "bias", "cosine"} of a mean and the right gradient."""
    factor = (mean * right).sum() / (right * right).sum()
    bias = (mean - factor * right).norm() / (factor * right).norm()
    cosine = (mean * right).sum() / (mean.norm() * right.norm())
    return {"factor": factor.item(), "bias": bias.item(), "cosine": cosine.item()}


def right_gradient(problem: Problem, logits: Tensor, kl_coef: float) -> Tensor:
    """The gradient of E[score] - kl_coef KL(policy || reference), [K,V]."""
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(problem.objective(logits, kl_coef), logits)[0]


def bias_and_variance(estimator: Estimator, logits: Tensor) -> dict[str, float]:
    """Of the first step at a policy; without a KL the right gradient is that of E[score]."""
    problem, groups = estimator.problem, estimator.groups
    price = 0.0 if estimator.kl == "none" else problem.kl_coef
    p, samples = groups.probabilities(logits), group_gradients(groups, logits, estimator(logits))
    mean = p @ samples
    trace = p @ (samples**2).sum(dim=1) - mean @ mean
    numbers = along(mean, right_gradient(problem, logits, price).flatten())
    return numbers | {"variance": groups.size * trace.item() / numbers["factor"] ** 2}


def interpolated(
    old: Tensor, goal: Tensor, kl: Callable[[Tensor], Tensor], wanted: float
) -> Tensor:
    """The policy on the straight line of logits from old to goal where kl is what is wanted."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if kl(old + middle * (goal - old)) < wanted:
            low = middle
        else:
            high = middle
    return old + low * (goal - old)


def stale_bias(problem: Problem, method: Method, groups: Groups, old: Tensor) -> dict[str, float]:
    """The bias of the step after the policy has moved, {"free": without clip, "clipped"}; score
    only, since a KL in the reward is that of the old policy."""
    new = interpolated(old, problem.best(), lambda x: sequence_kl(problem.world, old, x), DISTANCE)
    batch = {
        "logprobs": problem.world.logprobs(new),
        "old_logprobs": problem.world.logprobs(old),
        "advantages": method.advantages(Seen(problem.world, old, groups)),
    }
    right = right_gradient(problem, new, 0.0)

    def bias(loss: Loss) -> float:
        gradients = loss_gradients(groups, loss, batch, method.per_row)
        mean = mean_gradient(groups, groups.probabilities(old), new, gradients)
        return along(mean, right)["bias"]

    assert method.free is not None
    return {"free": bias(method.free), "clipped": bias(method.loss)}


def length_weights(groups: Groups, factors: Tensor, logits: Tensor) -> list[float]:
    """The mean weight of one token of a response of length 1, 2, ... per unit of advantage, over
    that at length 1."""
    p = groups.probabilities(logits).unsqueeze(1).expand(groups.rows.shape)
    lengths, weight = groups.mask.sum(dim=2), factors[:, :, 0]
    means = [
        ((p * weight)[lengths == length].sum() / p[lengths == length].sum()).item()
        for length in range(1, groups.world.response_length + 1)
    ]
    return [mean / means[0] for mean in means]


def length_slopes(problem: Problem, method: Method, groups: Groups) -> dict[str, float]:
    """What the mean length of right and of wrong responses gains in the first step from the
    reference, score 0 or 1, per unit of the probability of being right that is gained.

    Both are 0 for E[score] itself: its natural step multiplies all right responses by one number,
    and all wrong ones by another.
    """
    is_right = verifier(problem)
    judged = with_scores(problem, is_right.double())
    world, logits = judged.world, judged.ref_logits
    p = response_probabilities(world, logits)
    step = Estimator(judged, method, groups, "none").step(logits)
    per_token = natural(world, logits, step)[world.state_index, world.response_tokens]
    gain = torch.where(world.response_mask, per_token, 0.0).sum(dim=1)  # of log p, [N]
    lengths = world.response_mask.sum(dim=1).double()

    def slope(these: Tensor) -> float:
        q = p * these / p[these].sum()
        centred = lengths - (q * lengths).sum()
        return ((q * centred * gain).sum() / (p * gain)[is_right].sum()).item()

    return {"right": slope(is_right), "wrong": slope(~is_right)}


def difficulty(function: Callable[..., Tensor], group_size: int, p: float) -> float:
    """How much of the gradient of the probability of being right a method keeps where that
    probability is p: E[mean_i A_i r_i] / (p (1 - p)), over groups with k right responses."""
    right = torch.arange(group_size).expand(group_size + 1, -1) < torch.arange(
        group_size + 1
    ).unsqueeze(1)
    scores = right.double().flatten()
    advantages = function(scores=scores, group_size=group_size)
    means = (advantages * scores).view(-1, group_size).mean(dim=1)  # [G+1], by k
    counts = torch.distributions.Binomial(group_size, torch.tensor(p, dtype=torch.float64))
    chances = counts.log_prob(torch.arange(group_size + 1).double()).exp()
    return ((chances * means).sum() / (p * (1 - p))).item()


def verifier(problem: Problem) -> Tensor:
    """Which responses are right, [N]: those that score above the reference's mean."""
    p = response_probabilities(problem.world, problem.ref_logits)
    return problem.scores > (p * problem.scores).sum()
