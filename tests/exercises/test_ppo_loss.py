"""Exercise 14: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.ppo_loss import cases, exercise
from tests.exercises.bank import ppo_loss as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_ratios_leave_the_range_on_both_sides():
    for case in cases():
        ratios = (case["logprobs"] - case["old_logprobs"])[case["response_mask"]].exp()
        assert ratios.min() < 1 - case["cliprange"] and ratios.max() > 1 + case["cliprange"]
