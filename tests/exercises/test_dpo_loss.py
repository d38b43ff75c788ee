"""Exercise 17: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.dpo_loss import cases, exercise, margin
from tests.exercises.bank import dpo_loss as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_there_are_margins_of_both_signs_and_far_ones():
    margins = [margin(**case) for case in cases()]
    assert any((h > 0).any() and (h < 0).any() for h in margins)
    assert margins[-1].min() < -500 and margins[-1].max() > 500
