"""Rankings and ratings: drawn as often as they say."""

import itertools
from collections import Counter

import pytest
import torch

from minippo.annotators.opinions import draw_ranks, draw_ratings, labels_of_opinions
from minippo.reward_loss import check_ranks, plackett_luce_loss
from tests.helpers import f64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rankings_are_drawn_from_plackett_luce():
    worth, n = f64([0.5, 0.0, -0.6]), 30000
    ranks = draw_ranks(worth.expand(n, 3), temperature=0.8, generator=seeded())
    found = Counter(map(tuple, ranks.tolist()))
    for every in itertools.permutations((1, 2, 3)):
        loss = plackett_luce_loss(scores=worth[None] / 0.8, ranks=torch.tensor([every]))
        # four standard errors of a share of 1/4
        assert found[every] / n == pytest.approx(loss.neg().exp().item(), abs=0.01)


def test_every_draw_is_a_ranking():
    ranks = draw_ranks(torch.zeros(100, 9).double(), temperature=1.0, generator=seeded())
    check_ranks(ranks, torch.Size((100, 9)))


def test_without_doubt_the_ranking_is_the_order():
    ranks = draw_ranks(f64([[1.0, 3.0, 2.0]]), temperature=1e-3, generator=seeded())
    assert ranks.tolist() == [[3, 1, 2]]


def test_ratings_are_the_worth_plus_an_error():
    worth = f64([[3.0, -1.0]]).expand(20000, 2)
    errors = draw_ratings(worth, noise=0.5, generator=seeded()) - worth
    assert errors.mean().item() == pytest.approx(0.0, abs=0.01)
    assert errors.std().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(draw_ratings(worth, noise=0.0, generator=seeded()), worth)


def test_what_opinions_say_about_pairs():
    assert labels_of_opinions(f64([[1.0, 2.0, 2.0]])).tolist() == [[-1, -1, 0]]
    ranks = torch.tensor([[2, 1, 3]])  # the second is the best
    assert labels_of_opinions(-ranks).tolist() == [[-1, 1, 1]]
