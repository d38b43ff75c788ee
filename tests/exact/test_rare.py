"""Where a clip ends a token, and how often a rare response is kept."""

import math

import pytest
import torch

from minippo.exact import rare
from tests.helpers import assert_close, f64

SHORT = rare.Trainings(seeds=20, updates=4)


@pytest.mark.parametrize("high", rare.HIGHS)
def test_a_token_ends_at_its_own_probability_times_the_bound(high):
    for p in (0.01, 0.5, 0.75):
        assert rare.loses_gradient_at(p, high) == pytest.approx(p * (1 + high))
    assert rare.loses_gradient_at(0.9, high) is None  # 1.08 is none


def test_the_rows_of_the_tokens():
    rows = rare.token_rows()
    assert [row["probability"] for row in rows] == list(rare.TOKENS)
    assert rows[0]["0.2"] == pytest.approx(0.012) and rows[0]["0.28"] == pytest.approx(0.0128)


def test_one_step_by_hand():
    """Two responses of probability 1/2, scores 0 and 1, one group of 4 with k good ones. Those have
    the advantage sqrt((4 - k) / k), so the logit of the good response gains sqrt(k (4 - k)) / 4 and
    the other one loses as much."""
    runs = rare.Trainings((0.0, 1.0), (0.5, 0.5), groups=1, group_size=4, updates=1, steps=1)
    probabilities, found = rare.trained(math.inf, runs)
    odds = probabilities[:, 1].logit()
    wanted = f64([0, math.sqrt(3) / 2, 1])  # k = 0 and 4, 1 and 3, 2
    nearest = (odds.unsqueeze(1) - wanted).abs().min(dim=1)
    assert nearest.values.max() < 1e-12 and set(nearest.indices.tolist()) == {0, 1, 2}
    assert not found.any()  # there is no third response


def test_what_was_never_drawn_is_not_kept_and_equal_scores_move_nothing():
    probabilities, found = rare.trained(0.2, SHORT)
    assert_close(probabilities.sum(dim=1), torch.ones(20))
    assert 0 < found.sum() < 20
    assert (probabilities[~found, rare.GOOD] < 0.02).all()
    equal = SHORT._replace(scores=(1.0, 1.0, 1.0))
    assert_close(rare.trained(0.2, equal)[0], f64(SHORT.start).expand(20, 3))


def test_a_wider_range_lets_it_grow_faster():
    """In one update, once it was drawn; by no more than the range and a step beyond it."""
    runs = SHORT._replace(updates=1, steps=30, learning_rate=0.2, seeds=200)
    grown = []
    for high in (*rare.HIGHS, math.inf):
        probabilities, found = rare.trained(high, runs)
        grown.append((probabilities[found, rare.GOOD] / 0.01).mean().item())
        if high < math.inf:
            assert 1 + high / 2 < grown[-1] < 1.1 * (1 + high)
    assert grown == sorted(grown) and grown[-1] > 1.4


@pytest.mark.slow
def test_the_clip_costs_the_rare_response_most_of_what_it_is_drawn():
    narrow, wide, none = rare.search_rows()
    assert [row["cliprange_high"] for row in (narrow, wide, none)] == ["0.2", "0.28", "none"]
    for row in (narrow, wide, none):
        assert row["found"] > 0.9
    assert none["kept"] > wide["kept"] + 0.2 and none["kept"] > narrow["kept"] + 0.2
