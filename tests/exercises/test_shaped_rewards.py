"""Exercise 08: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.shaped_rewards import exercise
from tests.exercises.bank import shaped_rewards as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)
