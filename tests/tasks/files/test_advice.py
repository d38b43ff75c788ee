"""What to do about a record without the fields that are looked for. The formats in which such
records are published are in test_published.py."""

import pytest

from minippo.tasks.files.advice import (
    better_and_worse,
    for_completion,
    for_pairs,
    for_prompt,
    one_answer,
    several_answers,
    two_answers,
    wrapped,
)
from minippo.tasks.files.schema import ANSWERS, PROMPTS

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def advice(record):
    return for_pairs(record, ANSWERS, PROMPTS)


def test_nothing_is_said_where_nothing_is_known():
    for record in ({"x": 1.0}, {"prompt": "q"}, {"a": "", "b": " ", "c": None, "d": []}):
        assert advice(record) == "" and for_completion(record) == ""
    assert for_prompt({"completion": "a"}) == ""


def test_names_that_are_about_an_answer_are_no_answers():
    record = {"chosen_model": "m", "rejected_model": "n", "chosen_id": "1", "rejected_id": "2"}
    assert better_and_worse(record) == ""
    assert "call 'a_chosen'" in better_and_worse(record | {"a_chosen": "x", "a_rejected": "y"})
    assert two_answers({"model_a": "m", "model_b": "n", "score_1": "1", "score_2": "2"}) == ""


def test_numbers_are_no_texts():
    assert better_and_worse({"win": 1.0, "lose": 0.0}) == ""
    assert "tokens and no texts" in better_and_worse({"chosen_tokens": [1.0, 2.0]})
    assert two_answers({"answer_a": 1.0, "answer_b": 2.0}) == ""
    assert several_answers({"ids": [1.0, 2.0], "one": ["x"]}) == ""


@pytest.mark.parametrize("one, other", [("x0", "x1"), ("x_1", "x_2"), ("x A", "x B"), ("a", "b")])
def test_two_answers_are_known_by_how_their_names_end(one, other):
    assert f"of '{one}', '{other}' write" in two_answers({one: "good", other: TALK})
    assert two_answers({one: "good", "y" + other: "bad"}) == ""


def test_a_rated_answer_is_no_demonstration():
    assert "a demonstration" in one_answer({"prompt": "q", "output": "a"}, ANSWERS)
    assert "--task FILE.py:Class --reward rule" in one_answer({"conversation": TALK}, ANSWERS)
    assert "'toxicity' rates" in one_answer({"output": "a", "toxicity": 0.5}, ANSWERS)


def test_objects_in_a_list_are_rows_only_without_a_prompt():
    assert wrapped({"data": [{"a": 1}]}, PROMPTS).startswith("'data' holds objects")
    assert wrapped({"prompt": "q", "data": [{"a": 1}]}, PROMPTS) == ""
    assert wrapped({"talk": TALK, "text": "{no object", "list": ["{}"]}, PROMPTS) == ""


def test_quotes_nested_without_end_are_no_object():
    assert wrapped({"text": "{" * 10 + '"a":' * 3}, PROMPTS) == ""
    assert wrapped({"text": '{"a":' * 100_000}, PROMPTS) == ""


def test_what_stands_for_prompt_or_answer_is_asked_for():
    assert for_prompt({"query": "q"}) == "; call 'query' prompt, if it is the prompt"
    assert "into a field prompt" in for_prompt({"chosen": "a", "rejected": "b"})
    assert for_completion({"target": "a", "text": "t"}).startswith("; call 'target' completion")
    assert for_completion({"dialog": TALK}) == "; call 'dialog' messages"
    assert "write what 'turns' holds" in for_completion({"turns": ["q", "a"]})
    assert "would be a guess" in for_completion({"text": "t"})
