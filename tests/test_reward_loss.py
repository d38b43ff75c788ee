"""reward_loss: rankings and ratings, by hand, by enumeration and against pairs."""

import itertools
import math

import numpy as np
import pytest
import torch

from minippo.annotators.base import preference_probabilities
from minippo.reward_head import bradley_terry_loss
from minippo.reward_loss import check_ranks, plackett_luce_loss, rating_loss
from tests.helpers import assert_close, f64


def ints(rows):
    return torch.tensor(rows, dtype=torch.int64)


def probability(scores, ranks):
    """exp(-loss) of one ranking."""
    return plackett_luce_loss(scores=f64([scores]), ranks=ints([ranks])).neg().exp()


# -- by hand


def test_plackett_luce_by_hand():
    # scores log 1, log 2, log 3; the order is 3rd, 1st, 2nd:
    # 3/6 to be the best of all, then 1/3 to be the best of the two that are left
    scores = f64([[0.0, math.log(2), math.log(3)]])
    assert_close(plackett_luce_loss(scores=scores, ranks=ints([[2, 3, 1]])), -math.log(1 / 6))


def test_the_mean_is_over_rankings():
    scores = f64([[0.0, 0.0, 0.0], [0.0, math.log(2), math.log(3)]])
    loss = plackett_luce_loss(scores=scores, ranks=ints([[1, 2, 3], [2, 3, 1]]))
    assert_close(loss, (math.log(6) + math.log(6)) / 2)


def test_ratings_by_hand():
    # errors 1, -2, 0, 3: (1 + 4 + 0 + 9) / 4
    loss = rating_loss(scores=f64([[1.0, 0.0], [2.0, 3.0]]), ratings=f64([[0.0, 2.0], [2.0, 0.0]]))
    assert_close(loss, 3.5)


# -- theorems


def test_two_responses_are_bradley_terry():
    scores = f64([[0.3, -1.2], [2.0, 0.7], [-0.4, 0.1]])
    ranks = ints([[1, 2], [2, 1], [2, 1]])
    chosen, rejected = f64([0.3, 0.7, 0.1]), f64([-1.2, 2.0, -0.4])
    pairs = bradley_terry_loss(chosen_scores=chosen, rejected_scores=rejected)
    assert_close(plackett_luce_loss(scores=scores, ranks=ranks), pairs)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_probabilities_of_all_rankings_sum_to_one(k):
    scores = [0.7, -0.3, 1.9, 0.2][:k]
    every = itertools.permutations(range(1, k + 1))
    assert_close(sum(probability(scores, ranks) for ranks in every), 1.0)


def test_a_pair_of_a_ranking_is_bradley_terry():
    """Summed over all rankings with i before j: the other responses do not matter."""
    scores = [0.7, -0.3, 1.9, 0.2]
    every = list(itertools.permutations(range(1, 5)))
    pairs = preference_probabilities(f64(scores), 1.0)
    for number, (i, j) in enumerate(itertools.combinations(range(4), 2)):
        found = sum(probability(scores, ranks) for ranks in every if ranks[i] < ranks[j])
        assert_close(found, pairs[number])


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_gradient_is_that_of_the_enumeration(k):
    """The loss of each ranking, built from products of shares, and its mean gradient of 0 where
    the rankings are drawn from the scores themselves."""
    scores = f64([0.7, -0.3, 1.9, 0.2][:k]).requires_grad_()
    expected = torch.zeros(k, dtype=torch.float64)
    for order in itertools.permutations(range(k)):
        ranks = ints([[order.index(i) + 1 for i in range(k)]])
        (found,) = torch.autograd.grad(plackett_luce_loss(scores=scores[None], ranks=ranks), scores)
        share = torch.ones((), dtype=torch.float64)
        for place in range(k):
            share = share * scores[order[place]].exp() / scores[list(order[place:])].exp().sum()
        (wanted,) = torch.autograd.grad(-share.log(), scores)
        assert_close(found, wanted)
        expected += share.item() * found
    assert_close(expected, torch.zeros(k))


def test_a_constant_moves_no_ranking_and_every_rating():
    scores, ranks = f64([[0.3, -1.2, 0.8]]), ints([[2, 3, 1]])
    loss = plackett_luce_loss(scores=scores, ranks=ranks)
    assert_close(plackett_luce_loss(scores=scores + 100, ranks=ranks), loss)
    assert rating_loss(scores=scores + 1, ratings=scores) == 1.0


def test_the_best_score_is_the_mean_of_the_ratings():
    ratings = f64([[1.0], [2.0], [6.0]])
    score = f64([[3.0]]).requires_grad_()
    (gradient,) = torch.autograd.grad(
        rating_loss(scores=score.expand(3, 1), ratings=ratings), score
    )
    assert_close(gradient, [[0.0]])


def test_an_independent_transcription():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(5, 4))
    order = np.stack([generator.permutation(4) for _ in range(5)])
    ranks = order.argsort(1) + 1
    losses = []
    for row, places in zip(scores, order, strict=True):
        best_first = row[places]
        losses.append(-sum(best_first[i] - np.log(np.exp(best_first[i:]).sum()) for i in range(3)))
    found = plackett_luce_loss(scores=f64(scores.tolist()), ranks=ints(ranks.tolist()))
    assert_close(found, float(np.mean(losses)))


def test_large_scores_stay_finite():
    scores = f64([[1e4, -1e4, 0.0]]).requires_grad_()
    loss = plackett_luce_loss(scores=scores, ranks=ints([[3, 1, 2]]))
    assert_close(loss, 3e4)
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


# -- refusals


@pytest.mark.parametrize(
    "ranks, message",
    [
        ([[1, 2, 3], [1, 1, 3]], r"row 1: ranks \[1\] are given twice \(a tie\); ranks \[2\]"),
        ([[1, 2, 4], [1, 2, 3]], r"row 0: \[1, 2, 4\] leaves 1 ... 3; ranks \[3\] are missing"),
        ([[0, 1, 2], [1, 2, 3]], r"row 0: \[0, 1, 2\] leaves 1 ... 3; ranks \[3\] are missing"),
        ([[1, 2], [2, 1]], r"ranks must be int64 of shape \[2, 3\]"),
    ],
)
def test_rankings_with_ties_or_missing_ranks_are_refused(ranks, message):
    with pytest.raises(ValueError, match=message):
        plackett_luce_loss(scores=torch.zeros(2, 3), ranks=ints(ranks))


def test_a_ranking_of_one_or_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 ranking of at least 2, got 2 of 1"):
        check_ranks(torch.ones(2, 1, dtype=torch.int64), torch.Size((2, 1)))
    with pytest.raises(ValueError, match="got 0 of 3"):
        check_ranks(torch.ones(0, 3, dtype=torch.int64), torch.Size((0, 3)))
    with pytest.raises(ValueError, match="int64"):
        check_ranks(torch.ones(1, 2), torch.Size((1, 2)))
    with pytest.raises(ValueError, match="scores: got shape"):
        plackett_luce_loss(scores=torch.zeros(3), ranks=ints([1, 2, 3]))


def test_ratings_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="finite"):
        rating_loss(scores=torch.zeros(1, 2), ratings=f64([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"shape of scores, \[1, 2\]"):
        rating_loss(scores=torch.zeros(1, 2), ratings=torch.zeros(1, 3))
    with pytest.raises(ValueError, match="not be empty"):
        rating_loss(scores=torch.zeros(0, 2), ratings=torch.zeros(0, 2))
