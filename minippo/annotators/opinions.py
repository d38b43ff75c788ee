"""More than which of two is better: a ranking of all K responses, or a mark for each.

A ranking of K says as much as K (K-1) / 2 pairs, but they hang together; a mark also says how much
better. Both are drawn from what the responses are worth to one annotator.
"""

import torch
from torch import Tensor

from minippo.annotators.base import pair_indices


def draw_ranks(worth: Tensor, *, temperature: float, generator: torch.Generator) -> Tensor:
    """A ranking of the K responses of each prompt: 1 is the best, K the last.

    Equation P(order) = prod_i exp(w_(i)) / sum_{j >= i} exp(w_(j)), w = worth / temperature: the
             best is drawn from all, the second from the rest, and so on. Done at once by adding
             Gumbel noise to w and sorting.
    Source   Plackett 1975; Luce 1959; the noise: Yellott 1977.
    Shapes   worth [N,K] float64 -> [N,K] int64, each row a permutation of 1 ... K.
    Limits   K = 2: Bradley-Terry, equation (0.16).
    """
    waits = torch.empty_like(worth).exponential_(generator=generator)
    order = (worth / temperature - waits.log()).argsort(dim=1, descending=True)
    return order.argsort(dim=1) + 1


def draw_ratings(worth: Tensor, *, noise: float, generator: torch.Generator) -> Tensor:
    """A mark for each response: what it is worth, plus an error of this standard deviation, [N,K]
    float64."""
    errors = torch.randn(worth.shape, dtype=torch.float64, generator=generator)
    return worth + noise * errors


def labels_of_opinions(values: Tensor) -> Tensor:
    """What the values (higher is better) say about each pair: 1 the first is better, -1 the second,
    0 they are equal, [N,pairs] int64."""
    first, second = pair_indices(values.shape[1])
    return (values[:, first] - values[:, second]).sign().long()
