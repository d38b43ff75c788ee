"""Exercise 05: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.reward_score import exercise
from tests.exercises.bank import reward_score as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)
