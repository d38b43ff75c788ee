"""Exercise 15: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.first_ratio import cases, exercise
from tests.exercises.bank import first_ratio as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_the_farthest_ratio_is_above_and_below_1():
    sides = set()
    for case in cases():
        ratios = (case["logprobs"] - case["old_logprobs"])[case["response_mask"]].exp()
        farthest = ratios[(ratios - 1).abs().argmax()]
        sides.add(bool(farthest > 1))
    assert sides == {True, False}
