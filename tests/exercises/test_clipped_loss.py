"""Exercise 11: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.clipped_loss import cases, exercise
from tests.exercises.bank import clipped_loss as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_the_cases_have_all_six_meetings_of_sign_and_ratio():
    met = set()
    for case in cases():
        mask, ratio = case["response_mask"], (case["logprobs"] - case["old_logprobs"]).exp()
        where = (ratio > 1 + case["cliprange"]).int() - (ratio < 1 - case["cliprange"]).int()
        signs = case["advantages"].sign()[mask].tolist()
        met |= {*zip(signs, where[mask].tolist(), strict=True)}
    assert met == {(s, w) for s in (1.0, -1.0) for w in (-1, 0, 1)}
