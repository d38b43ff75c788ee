"""Exercise 12: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.clip_fraction import cases, exercise
from tests.exercises.bank import clip_fraction as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_the_cases_hold_all_four_corners():
    corners = set()
    for case in cases():
        mask = case["response_mask"]
        ratios, advantages = (
            (case["logprobs"] - case["old_logprobs"]).exp()[mask],
            case["advantages"][mask],
        )
        for name, outside in (
            ("above", ratios > 1 + case["cliprange"]),
            ("below", ratios < 1 - case["cliprange"]),
        ):
            corners |= {(name, sign) for sign in (advantages[outside] > 0).tolist()}
    assert len(corners) == 4
