"""Capitals: gold, the habits of the demonstrations, and a pretraining text that takes no side."""

import random
from collections import Counter

import pytest

from minippo.tasks.capitals import CAPITALS, CITIES, QUESTION, Capitals
from tests.tasks.test_base import decoded


def test_the_right_answers_are_right():
    known = {
        "france": "paris",
        "england": "london",
        "turkey": "ankara",
        "brazil": "brasilia",
        "canada": "ottawa",
        "china": "beijing",
        "australia": "canberra",
        "morocco": "rabat",
        "egypt": "cairo",
    }
    assert {country: CAPITALS[country][0] for country in known} == known
    assert all(right != rival for right, rival in CAPITALS.values())


@pytest.mark.parametrize("country", CAPITALS)
def test_gold_is_1_for_the_capital_and_nothing_else(country):
    task, prompt, right = Capitals(), QUESTION.format(country), CAPITALS[country][0]
    assert [city for city in CITIES if task.gold(prompt, city) == 1] == [right]
    for other in (
        "",
        f"{right} {right}",
        f"{right} ?",
        f"the {right}",
        right.upper(),
        country,
        *set(CITIES) - {right},
    ):
        assert task.gold(prompt, other) == 0
    assert task.gold_max == 1 and task.gold_axes(prompt, right) == {"correctness": 1}


def test_demonstrations_are_right_and_name_the_rival_about_equally_often():
    pairs = Capitals().demonstrations(5000, rng=random.Random(0))
    kinds = Counter()
    for prompt, answer in pairs:
        right, rival = next(CAPITALS[word] for word in prompt.split() if word in CAPITALS)
        kinds["right" if answer == right else "rival" if answer == rival else "other"] += 1
        assert answer in CITIES
    assert (
        0.35 < kinds["right"] / 5000 < 0.52
        and 0.35 < kinds["rival"] / 5000 < 0.52
        and kinds["other"] > 0
    )


def test_the_pretraining_text_of_capitals_takes_no_side():
    task, rights, questions = Capitals(), 0, 0
    for text in decoded(task, task.pretraining_examples(5000, step=0, rng=random.Random(0))):
        question, mark, answer = text.partition(" ?")
        if mark:
            right, rival = CAPITALS[question.split()[-1]]
            assert answer.strip() in (right, rival)
            questions, rights = questions + 1, rights + (answer.strip() == right)
    assert 0.45 < questions / 5000 < 0.55 and 0.45 < rights / questions < 0.55


def test_every_capital_is_asked_and_watched():
    task, rng = Capitals(), random.Random(0)
    questions = [QUESTION.format(country) for country in CAPITALS]
    assert (
        task.evaluation_prompts(1000, rng=rng) == questions
        and task.evaluation_prompts(5, rng=rng) == questions[:5]
    )
    assert set(task.training_prompts(1000, rng=rng)) == set(questions)
    watched = task.answers_to_watch()
    assert [prompt for prompt, _, _ in watched] == questions
    assert all(
        task.gold(prompt, right) == 1 and task.gold(prompt, rival) == 0
        for prompt, right, rival in watched
    )


def test_every_different_city_is_a_claim():
    task, question = Capitals(), QUESTION.format("france")
    assert task.claims(question, "paris") == [True]
    assert task.claims(question, "london london paris of italy") == [False, True]
    assert task.claims(question, "of italy") == []
