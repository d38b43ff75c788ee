"""Choosing instead of learning by gradient: the best of n samples.

Where we are. A reward model says which of several responses is best.

The problem. Training a policy against it takes a loop that is delicate and can go wrong.

The idea. Sample n responses from the reference and keep the one with the highest score. That needs
no training. Fine-tuning on the kept ones (rejection sampling, rft) makes a policy that does it with
one sample; done again from the new policy it goes on.

What is still wrong. n samples for each answer, or for each example. What the reference never says
is never chosen. The KL to the reference is at most log n - (n-1)/n: four times the samples for 1.4
nats.
"""

import torch
from torch import Tensor

from minippo.shapes import check_count, check_data, check_shapes

SUM_TOLERANCE = 1e-3  # probabilities in 16 bits are rounded by so much


def best_of_n_probabilities(*, probabilities: Tensor, scores: Tensor, n: int) -> Tensor:
    """The distribution of the best of n independent responses.

    Equation (9.14) p_n(y) = p(y) / P(s = s_y) (P(s <= s_y)^n - P(s < s_y)^n)
    Source   order statistics; for responses: Beirami et al. 2024, arXiv:2401.01879.
    Shapes   probabilities, scores [Y] float, all responses to one prompt -> [Y].
    Gradient none: both are data.
    Limits   n = 1: the probabilities. n to infinity: the best responses of the support. Responses
             of equal score share by their probability.
    Raises   ValueError: shapes differ, an argument requires grad, probabilities below 0 or not of
             sum 1, scores not finite, n < 1.
    """
    check_shapes(probabilities=(probabilities, "Y"), scores=(scores, "Y"))
    check_data(probabilities=probabilities, scores=scores)
    check_count(n=n)
    p = probabilities.double()
    if not (bool((p >= 0).all()) and abs(p.sum().item() - 1) < SUM_TOLERANCE):
        raise ValueError("probabilities: wanted numbers of at least 0 with sum 1")
    if not bool(scores.isfinite().all()):
        raise ValueError("scores: wanted finite numbers, got NaN or infinity among them")
    p = p / p.sum()  # the power would make more of what is rounded
    _, place = scores.unique(return_inverse=True)  # of each score among the different ones
    mass = p.new_zeros(len(scores)).index_add(0, place, p)
    at_most = mass.cumsum(dim=0)
    # a^n - b^n with b = a - mass, without its cancellation
    falls = -torch.expm1(n * torch.log1p(-mass / at_most))
    per_unit = torch.where(mass > 0, at_most**n * falls / mass, 0.0)
    return (p * per_unit[place]).to(probabilities.dtype)
