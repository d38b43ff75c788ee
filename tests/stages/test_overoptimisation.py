"""Courses over the KL, the drop of gold, the best of n, and two fitted laws."""

import itertools
import math
import random

import pytest

from minippo.stages.overoptimisation import (
    Point,
    best_of_n_course,
    course,
    fit_best_of_n,
    fit_reinforcement,
    gold_drop,
)


def test_a_course_is_made_of_means_of_points_that_follow_one_another():
    points = [Point(float(i), 2.0 * i, -float(i)) for i in range(6)]
    found = course(points, window=4)
    assert found == [Point(1.5, 3.0, -1.5), Point(2.5, 5.0, -2.5), Point(3.5, 7.0, -3.5)]
    assert course(points[:2], window=4) == [Point(0.5, 1.0, -0.5)]


def test_the_drop_is_from_the_best_on_the_way_to_the_end():
    golds = [1.0, 2.5, 2.0, 1.3]
    points = [Point(0.0, 0.0, gold) for gold in golds]
    assert gold_drop(points, gold_max=3.0) == pytest.approx(0.4)  # (2.5 - 1.3) / 3
    assert gold_drop(points[:2], gold_max=3.0) == 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_best_of_n_counts_every_choice_of_n_samples(n):
    rng = random.Random(0)
    scores, golds = ([rng.gauss(0, 1) for _ in range(5)] for _ in range(2))
    choices = [
        max(chosen, key=lambda i: scores[i]) for chosen in itertools.combinations(range(5), n)
    ]
    (point,) = best_of_n_course([scores], [golds], [n])
    assert point.kl == pytest.approx(math.log(n) - (n - 1) / n)
    assert point.score == pytest.approx(sum(scores[i] for i in choices) / len(choices))
    assert point.gold == pytest.approx(sum(golds[i] for i in choices) / len(choices))


def test_samples_of_one_score_share_whatever_their_order():
    # of two of three: the pair (0, 1) has score 0, the two others 1; the zeros share their gold
    for golds in ([6.0, 0.0, 3.0], [0.0, 6.0, 3.0]):
        (point,) = best_of_n_course([[0.0, 0.0, 1.0]], [golds], [2])
        assert point.score == pytest.approx(2 / 3)
        assert point.gold == pytest.approx((1 / 3) * 3.0 + (2 / 3) * 3.0)


def test_prompts_count_alike():
    (point,) = best_of_n_course([[0.0, 1.0], [4.0, 4.0]], [[0.0, 1.0], [2.0, 2.0]], [2])
    assert (point.score, point.gold) == (2.5, 1.5)


def test_the_laws_are_found_again():
    distances = [0.3, 0.7, 1.1, 1.9, 2.6]
    quadratic = [Point(d * d, 0.0, 0.5 + d * (2.0 - 0.6 * d)) for d in distances]
    fit = fit_best_of_n(quadratic, 0.5)
    assert (fit.a, fit.b) == (pytest.approx(2.0), pytest.approx(0.6))
    assert fit.residual == pytest.approx(0.0, abs=1e-9)
    logarithmic = [Point(d * d, 0.0, -1.0 + d * (1.5 - 0.9 * math.log(d))) for d in distances]
    fit = fit_reinforcement(logarithmic, -1.0)
    assert (fit.a, fit.b) == (pytest.approx(1.5), pytest.approx(0.9))
    assert fit_best_of_n(logarithmic, -1.0).residual > 1e-3  # the other law is another one


def test_the_residual_and_the_spread_by_hand():
    # d = 1, 1, 2 and y = 1, 3, 4: at d = 1 the law can only give 2, at d = 2 it gives 4
    points = [Point(1.0, 0.0, 1.0), Point(1.0, 0.0, 3.0), Point(4.0, 0.0, 4.0)]
    fit = fit_best_of_n(points, 0.0)
    assert fit.residual == pytest.approx(math.sqrt(2 / 3))
    assert fit.spread == pytest.approx(math.sqrt(14 / 9))  # around 8/3: 25/9, 1/9, 16/9


def test_too_little_is_not_fitted():
    points = [Point(1.0, 0.0, 1.0)] * 2
    assert fit_best_of_n(points, 0.0) is None
    assert fit_reinforcement([Point(0.0, 0.0, 1.0)] * 5, 0.0) is None  # at the reference
    assert fit_best_of_n([Point(1.0, 0.0, 1.0)] * 5, 0.0) is None  # all at one distance
