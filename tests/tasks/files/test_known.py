"""Schemas that are no pairs yet, and fields whose meaning must not be lost."""

import pytest

from minippo.tasks.files.known import (
    NO_PAIRS,
    SCHEMAS,
    check_demonstration,
    check_nothing_lost,
    check_pair,
    check_schema,
    is_given,
    number_of,
)
from minippo.tasks.files.messages import Unusable


def reason(function, *arguments, **options):
    with pytest.raises(Unusable) as caught:
        function(*arguments, **options)
    return caught.value.field, caught.value.what


@pytest.mark.parametrize("fields, what", SCHEMAS)
def test_a_schema_is_named_and_has_a_recipe(fields, what):
    field, told = reason(check_schema, dict.fromkeys([*fields, "id"]))
    assert field is None and what in told and "there is a recipe" in told


@pytest.mark.parametrize("fields, what", NO_PAIRS)
def test_what_has_no_recipe_is_named_too(fields, what):
    told = reason(check_schema, dict.fromkeys(fields))[1]
    assert what in told and told.endswith("a better and a worse answer to each prompt")


def test_pairs_and_demonstrations_are_no_other_schema():
    for fields in ("prompt chosen rejected", "prompt completion", "messages", "question answer"):
        check_schema(dict.fromkeys(fields.split()))


@pytest.mark.parametrize("value", ["", " ", None, [], {}])
def test_what_says_nothing_is_not_there(value):
    assert not is_given({"a": value}, "a") and not is_given({}, "a")


@pytest.mark.parametrize("value", [0.0, False, "0", [None]])
def test_what_says_no_is_there(value):
    assert is_given({"a": value}, "a")


@pytest.mark.parametrize("field", ["label", "winner", "better_response_id", "preference", "Choice"])
def test_a_choice_beside_a_pair_is_refused(field):
    assert reason(check_pair, {"chosen": "a", field: 0.0})[0] == field
    check_pair({"chosen": "a", field: None, "labeler": "x", "choices": "y"})


def test_marks_must_not_contradict_the_pair():
    for low, high in ((1.0, 2.0), ("1", "2.5")):
        told = reason(check_pair, {"score_chosen": low, "score_rejected": high})
        assert told[0] == "score_chosen" and "lower than 'score_rejected'" in told[1]
        looked_at = check_pair({"score_chosen": high, "score_rejected": low})
        assert looked_at == [("score_chosen", "score_rejected")]
        assert check_pair({"tokens_chosen": low, "tokens_rejected": high}) == []
    check_pair({"chosen-rating": None, "rejected-rating": 2.0, "chosen_rating": [1.0]})
    assert "nothing is preferred" in reason(check_pair, {"status": "Tie"})[1]
    for mark in (1.0, "1"):
        field, told = reason(check_pair, {"score_chosen": 1.0, "score_rejected": mark})
        assert field == "score_chosen" and told.startswith("and 'score_rejected' are both 1: a tie")


def test_one_field_for_both_answers_must_not_contradict_the_pair():
    for field in ("margin", "score_diff", "reward_margin"):
        assert "below 0" in reason(check_pair, {field: -0.5})[1]
        check_pair({field: 0.0})
    check_pair({"seconds_difference": -1.0, "margin": None, "ratings": [1.0, 2.0], "score": 1.0})
    assert "is 9 for both answers: a tie" in reason(check_pair, {"rating": [9.0, "9"]})[1]
    check_pair({"ratings": [5.0, 5.0, 1.0], "scores": ["x", "x"], "positions": [1.0, 1.0]})


def test_a_number_is_a_number():
    assert number_of(True) is None and number_of("x") is None and number_of("2") == 2


@pytest.mark.parametrize("field", ["helpfulness", "is_safe", "score", "rating", "rank", "labels"])
def test_rated_rows_are_not_learned_unseen(field):
    assert reason(check_demonstration, {"prompt": "q", field: False})[0] == field
    check_demonstration({"prompt": "q", field: None, "category": "x", "label": False})


def test_no_beginning_of_an_answer_is_dropped():
    for field in ("initial_reason_steps", "prefix", "previous_response", "partial_output"):
        told = reason(check_nothing_lost, {field: "Step 1:"}, {"prompt"}, is_text=True)
        assert told[0] == field and "belongs to the prompt" in told[1]
    check_nothing_lost({"initial_score": 1.0, "prefix": ""}, set(), is_text=True)


def test_no_part_of_a_prompt_is_dropped():
    for field in ("history", "messages", "tools", "images"):
        told = reason(check_nothing_lost, {field: ["x"]}, {"prompt"}, is_text=True)
        assert told[0] == field and "belongs to the prompt" in told[1]
        check_nothing_lost({field: []}, set(), is_text=True)
        check_nothing_lost({field: ["x"]}, {field}, is_text=True)
    check_nothing_lost({"messages": ["x"]}, set(), is_text=False)  # chosen is a list itself
    reason(check_nothing_lost, {"tools": ["x"]}, set(), is_text=False)
