"""Losses on pairs, exactly: all pairs of responses of the reference, labelled by Bradley and Terry
with the scores, as if there were infinitely many.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minippo.exact.groups import Problem
from minippo.exact.oracle import reach_probabilities, response_probabilities

STILL, MOST_STEPS = 1e-10, 1000


def pair_chances(problem: Problem) -> Tensor:
    """How often response i is chosen and j rejected, [N,N], of sum 1."""
    p = response_probabilities(problem.world, problem.ref_logits)
    wins = torch.sigmoid(problem.scores.unsqueeze(1) - problem.scores)
    return 2 * p.unsqueeze(1) * p * wins


def mean_loss_gradient(problem: Problem, loss: Callable[..., Tensor], logits: Tensor) -> Tensor:
    """The gradient of the mean loss over all pairs by the logits, [K,V]. loss: one of
    minippo.relatives.direct, with its beta."""
    world, N = problem.world, len(problem.scores)
    first, second = (x.flatten() for x in torch.meshgrid(*2 * [torch.arange(N)], indexing="ij"))
    ref = world.logprobs(problem.ref_logits).sum(dim=1)
    logits = logits.detach().requires_grad_()
    logprobs = world.logprobs(logits).sum(dim=1)
    chosen, rejected = (logprobs[x].detach().requires_grad_() for x in (first, second))
    value = loss(
        chosen_logprobs=chosen,
        rejected_logprobs=rejected,
        ref_chosen_logprobs=ref[first],
        ref_rejected_logprobs=ref[second],
    )
    # of a mean of N^2 pairs; each counts by how often it is met
    slopes = torch.autograd.grad(value, [chosen, rejected])
    weights = N**2 * pair_chances(problem).flatten()
    total = (weights * (slopes[0] * logprobs[first] + slopes[1] * logprobs[second])).sum()
    return torch.autograd.grad(total, logits)[0]


def minimum(problem: Problem, loss: Callable[..., Tensor], size: float) -> tuple[Tensor, bool]:
    """(logits, whether the gradient has become 0) from the reference. The step of each token is
    divided by how often the reference chooses it: the pairs are the reference's."""
    world = problem.world
    pi = torch.softmax(problem.ref_logits, dim=-1)
    visits = reach_probabilities(world, problem.ref_logits).unsqueeze(1) * pi
    logits = problem.ref_logits.log_softmax(-1)
    for _ in range(MOST_STEPS):
        gradient = mean_loss_gradient(problem, loss, logits)
        if gradient.abs().max() < STILL:
            return logits, True
        logits = (logits - (size * gradient / visits).clamp(-1, 1)).log_softmax(-1)
    return logits, False
