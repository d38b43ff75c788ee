"""A response token by token."""

import pytest

from minippo.runs.report.strip import LEVELS, MOST_TOKENS, kind, level, of_shade, strips, told
from tests.made_runs import HOSTILE, moment, token

# by tests/made_runs.py: 1/4, -2/4, 3/4, -4/4, 5/4, -6/4
SAID = (
    "a: log-prob before 0.25, log-prob after -0.5, value 0.75, reward -1, advantage 1.25, KL -1.5"
)


def test_a_token_tells_all_its_numbers_without_javascript():
    assert told(token("a")) == SAID
    assert f'title="{SAID}"' in strips([moment(2, "x", [token("a")])])


def test_what_is_not_known_is_a_dash():
    unknown = token("a") | {"value": None, "advantage": None}
    assert "value \u2013" in told(unknown) and "advantage \u2013" in told(unknown)
    text = strips([moment(2, "x", [unknown])])
    assert 'class="token zero"' in text and ">value<" not in text.split("</select>")[0]


def test_texts_are_escaped_in_the_attribute_too():
    text = strips([moment(2, HOSTILE, [token(HOSTILE)])])
    assert "<img" not in text and 'onerror="' not in text


@pytest.mark.parametrize("value, found", [(2.0, LEVELS), (-2.0, -LEVELS), (0.1, 0), (None, 0)])
def test_a_level_is_a_share_of_the_largest(value, found):
    assert level(value, 2.0) == found and level(value, 0.0) == 0


def test_the_change_is_after_less_before():
    assert of_shade(token("a"), "change") == -0.75 and of_shade(token("a"), "kl") == -1.5


def test_classes():
    assert [kind(x) for x in (3, 0, -4)] == ["p3", "zero", "n4"]


def test_long_responses_are_cut_and_have_no_table():
    text = strips([moment(2, "x", [token("a")] * (MOST_TOKENS + 7))])
    assert text.count('class="token ') == MOST_TOKENS and "and 7 more" in text
    assert "<table" not in text


def test_one_token_of_a_strip_can_be_reached_with_the_tab_key():
    text = strips([moment(2, "x", [token("a"), token("b"), token("c")])])
    assert text.count('tabindex="0"') == 1 and text.count('tabindex="-1"') == 2


def test_rows_without_tokens_have_no_strip():
    assert strips([moment(0, "x"), moment(2, "x")]) == ""
