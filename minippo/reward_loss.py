"""What a reward model can learn from, beside pairs: rankings of K responses, and ratings.

A pair says which of two scores is to be higher (`reward_head.bradley_terry_loss`). A ranking says
it of K at once, as one choice after the other: the best of all, the best of the rest, and so on.
The pairs of one ranking are not independent, so to count them one by one would count some of what
it says more than once. A rating says how high a score is to be; it is regression, and the raters'
scale comes with it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minippo.shapes import check_dtype, check_shape


def plackett_luce_loss(*, scores: Tensor, ranks: Tensor) -> Tensor:
    """How badly the scores explain that people ranked what they ranked.

    Equation (0.20) L = -mean_n sum_{i=1}^{K-1} [s_n(i) - log sum_{j >= i} exp s_n(j)], s_n(i) the
             score of the response in place i of ranking n
    Source   Plackett 1975; Luce 1959.
    Shapes   scores [N,K] float, ranks [N,K] int64, each row a permutation of 1 (best) ... K ->
             scalar.
    Gradient to scores; a constant added to the scores of a row changes nothing.
    Limits   K = 2: `bradley_terry_loss`; equal scores: log K!; a score far above those behind it,
             for every place: 0.
    Raises   ValueError: shapes differ, K < 2, no ranking, a rank that is missing or given twice.
    """
    check_shape("scores", scores, "N K")
    check_dtype("float", scores=scores)
    check_ranks(ranks, scores.shape)
    in_order = scores.gather(1, ranks.argsort(dim=1))  # best first
    of_the_rest = in_order.flip(1).logcumsumexp(dim=1).flip(1)  # [N,K]
    return (of_the_rest - in_order)[:, :-1].sum(dim=1).mean()  # the last is no choice


def check_ranks(ranks: Tensor, shape: torch.Size) -> None:
    """ValueError, with the first row that is wrong, unless each row is a permutation of 1 ... K."""
    if ranks.shape != shape or ranks.dtype != torch.int64:
        raise ValueError(
            f"ranks must be int64 of shape {list(shape)}, got {ranks.dtype} {list(ranks.shape)}"
        )
    N, K = shape
    if N == 0 or K < 2:
        raise ValueError(f"ranks: wanted at least 1 ranking of at least 2, got {N} of {K}")
    places = torch.arange(1, K + 1, device=ranks.device)
    wrong = (ranks.sort(dim=1).values != places).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.long().argmax())
        given = ranks[row].tolist()
        missing = [place for place in range(1, K + 1) if place not in given]
        twice = sorted({rank for rank in given if given.count(rank) > 1})
        what = f"ranks {twice} are given twice (a tie)" if twice else f"{given} leaves 1 ... {K}"
        raise ValueError(f"ranks, row {row}: {what}; ranks {missing} are missing")


def rating_loss(*, scores: Tensor, ratings: Tensor) -> Tensor:
    """How far the scores are from the ratings.

    Equation (0.21) L = mean over n, k of (s_nk - rating_nk)^2
    Source   least squares.
    Shapes   scores, ratings [N,K] float -> scalar.
    Gradient to scores; unlike with pairs, a constant added to them matters.
    Limits   the best scores are the means of the ratings; with errors of variance v the loss ends
             at v.
    Raises   ValueError: shapes differ, nothing there, a rating that is not finite.
    """
    check_shape("scores", scores, "N K")
    check_dtype("float", scores=scores, ratings=ratings)
    if ratings.shape != scores.shape or scores.numel() == 0:
        raise ValueError(
            f"ratings must have the shape of scores, {list(scores.shape)}, and not be empty; got "
            f"{list(ratings.shape)}"
        )
    if not bool(ratings.isfinite().all()):
        raise ValueError("ratings: wanted a finite number for every response")
    return F.mse_loss(scores, ratings.to(scores.dtype))
