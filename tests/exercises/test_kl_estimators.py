"""Exercise 09: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.kl_estimators import exercise
from tests.exercises.bank import kl_estimators as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)
