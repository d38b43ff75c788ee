"""Arithmetic: gold by hand, a split that nobody crosses, and the habits of the demonstrations."""

import random
from collections import Counter

import pytest

from minippo.tasks.arithmetic import (
    HELDOUT_SHARE,
    Arithmetic,
    careless,
    numbers_in,
    question,
    split_problems,
)
from tests.tasks.test_base import decoded, learned_and_read

TASK = Arithmetic()


@pytest.mark.parametrize(
    "prompt, right",
    [
        ("3 7 + 4 5 =", "8 2"),
        ("1 0 + 1 0 =", "2 0"),
        ("9 9 + 9 9 =", "1 9 8"),
        ("5 0 + 5 0 =", "1 0 0"),
    ],
)
def test_gold_is_1_for_the_right_digits_and_nothing_else(prompt, right):
    assert TASK.gold(prompt, right) == 1 and TASK.gold_max == 1
    assert TASK.gold_axes(prompt, right) == {"correctness": 1}
    near = f"{right[:-1]}{(int(right[-1]) + 1) % 10}"
    wrong = ("", near, f"0 {right}", f"{right} {right}", f"= {right}", right[:-2], right + " 0")
    assert {TASK.gold(prompt, other) for other in (*wrong, right.replace(" ", ""))} == {0}


def test_no_problem_is_on_both_sides_and_its_twin_is_on_its_own():
    training, heldout = split_problems()
    assert len(training) + len(heldout) == len({*training, *heldout}) == 90 * 90
    assert {(b, a) for a, b in heldout} == set(heldout)
    assert len(heldout) / 90**2 == pytest.approx(HELDOUT_SHARE, abs=0.01)
    assert min(map(min, training)) == 10 and max(map(max, training)) == 99


def test_no_stage_sees_a_heldout_problem():
    heldout = {question(*pair) for pair in TASK.heldout}
    texts = learned_and_read(TASK, 3000, random.Random(0))
    for kind in ("pretraining", "demonstrations", "training"):
        asked = {text.partition("=")[0] + "=" for text in map(str, texts[kind])}
        assert asked and not asked & heldout, kind
    assert set(TASK.evaluation_prompts(5000, rng=random.Random(0))) == heldout
    assert set(TASK.training_prompts(3000, rng=random.Random(1))) <= set(TASK.fixed_prompts())


def test_the_split_does_not_depend_on_how_many_problems_there_are():
    few = Arithmetic(20)
    assert few.problems == TASK.problems[:20] and few.heldout == TASK.heldout
    assert few.amounts == {"prompt": 20} and len(few.fixed_prompts()) == 20


def test_the_pretraining_text_adds_rightly():
    for text in decoded(TASK, TASK.pretraining_examples(500, step=0, rng=random.Random(0))):
        prompt, answer = text.split(" = ")
        assert TASK.gold(f"{prompt} =", answer) == 1


@pytest.mark.parametrize(
    "a, b, answers", [(37, 45, {82, 72, 81, 83, 8}), (31, 45, {76, 86, 75, 77, 7})]
)
def test_the_mistakes_by_hand(a, b, answers):
    said = {careless(a, b, random.Random(seed)).replace(" ", "") for seed in range(200)}
    assert said == {str(answer) for answer in answers}


def test_most_demonstrations_are_wrong():
    rng = random.Random(0)
    rights = Counter(TASK.gold(*pair) for pair in TASK.demonstrations(4000, rng=rng))
    assert 0.17 < rights[1.0] / 4000 < 0.23


def test_a_question_can_be_read_again():
    assert all(numbers_in(question(a, b)) == (a, b) for a, b in TASK.heldout[:50])
