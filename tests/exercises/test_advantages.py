"""Exercise 04: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.advantages import exercise
from tests.exercises.bank import advantages as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)
