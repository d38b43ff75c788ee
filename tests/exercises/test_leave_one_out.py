"""Exercise 16: right answers of several kinds pass, and each wrong one is told what it is."""

from minippo.exercises.leave_one_out import cases, exercise
from tests.exercises.bank import leave_one_out as bank
from tests.exercises.exercise_checks import check_exercise


def test_the_exercise():
    check_exercise(exercise, bank)


def test_there_are_groups_of_two_and_of_more_and_several_prompts():
    sizes = {case["group_size"] for case in cases()}
    assert 2 in sizes and max(sizes) > 3
    assert any(len(case["scores"]) > case["group_size"] for case in cases())
