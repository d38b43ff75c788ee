"""The moments at which prompts are answered on the way, and the rows that are kept of them."""

import pytest

from minippo.runs.moments import are_moments, is_moment, updates_between, without_tokens
from tests.made_runs import moment, token


@pytest.mark.parametrize(
    "updates, step", [(1, 1), (5, 1), (16, 2), (30, 5), (40, 6), (60, 10), (250, 10), (1000, 40)]
)
def test_ten_updates_lie_between_two_moments_fewer_in_a_short_run_and_more_in_a_long_one(
    updates, step
):
    assert updates_between(updates) == step
    found = [update for update in range(updates + 1) if is_moment(update, updates)]
    assert found == sorted({*range(0, updates + 1, step), updates})
    assert updates < 6 or 6 <= len(found) <= 28


def test_tokens_are_left_out_of_moments_that_are_past():
    assert without_tokens([moment(2, "a", [token("b")])]) == [moment(2, "a")]


GOOD = moment(2, "a", [token("b")])


def test_rows_as_they_are_written():
    null = GOOD | {"gold": None, "tokens": [token("b") | {"value": None, "advantage": None}]}
    assert are_moments([]) and are_moments([GOOD, null, moment(0, "")])


@pytest.mark.parametrize(
    "changed",
    [
        {"update": -1},
        {"update": "2"},
        {"update": True},
        {"prompt": None},
        {"response": 3},
        {"score": None},
        {"kl": "1"},
        {"gold": True},
        {"tokens": None},
        {"tokens": [3]},
        {"tokens": [token("b") | {"reward": None}]},
        {"tokens": [token("b") | {"text": 1}]},
        {"tokens": [token("b") | {"more": 1}]},
    ],
)
def test_other_rows_are_no_moments(changed):
    assert not are_moments([GOOD, GOOD | changed])


def test_what_is_no_list_of_rows_is_none():
    assert not are_moments({}) and not are_moments([[]]) and not are_moments(None)
    for name in ("update", "gold", "prompt"):
        assert not are_moments([{key: value for key, value in GOOD.items() if key != name}]) or (
            name == "gold"
        )
