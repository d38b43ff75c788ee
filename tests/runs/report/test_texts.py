"""Words and numbers as HTML."""

import json

import pytest

from minippo.runs.report.texts import (
    LONGEST,
    as_data,
    escaped,
    flat,
    number,
    section,
    sentence,
    short,
    table,
    value_of,
)
from tests.made_runs import HOSTILE


def test_a_text_is_shown_and_does_nothing():
    shown = escaped(HOSTILE)
    assert not {"<", ">", '"', "'", "\x00", "\u202e", "\ud800"} & {*shown}
    assert shown.startswith("&lt;/script&gt;&lt;img src=x") and "&amp;amp;" in shown
    assert "\\x00" in shown and "\\u202e" in shown and "\\ud800" in shown
    assert escaped("a\nb") == "a\nb" and escaped("\r") == "\\r"


def test_a_long_text_is_cut():
    assert escaped("a" * LONGEST) == "a" * LONGEST
    assert escaped("a" * (LONGEST + 1)) == "a" * LONGEST + "\u2026"


def test_data_cannot_end_its_element():
    text = as_data({"a": HOSTILE, "b": [1, None]})
    assert not {"<", ">", "&"} & {*text} and json.loads(text) == {"a": HOSTILE, "b": [1, None]}
    with pytest.raises(ValueError):
        as_data(float("nan"))


@pytest.mark.parametrize(
    "value, text", [(None, "\u2013"), (0.126, "0.13"), (3, "3"), (-2.0, "-2.00"), (1e3, "1000.00")]
)
def test_a_number_with_decimals(value, text):
    assert number(value) == text


def test_a_number_with_three_digits():
    assert [short(x) for x in (None, 0.00041234, 1310000.0, 12, 0)] == [
        "\u2013",
        "0.000412",
        "1.31e+06",
        "12",
        "0",
    ]


@pytest.mark.parametrize("value", [True, "<b>", [1], {}])
def test_what_is_no_number_is_refused(value):
    for show in (number, short):
        with pytest.raises(TypeError):
            show(value)


def test_a_sentence():
    assert sentence("gold 1.03 -> 2.89 of <3>") == "Gold 1.03 \u2192 2.89 of &lt;3&gt;."


def test_a_table_names_the_column_in_every_cell():
    text = table(["a<", "b"], [["1", "2"]], "name", "said")
    assert '<td data-column="a&lt;">1</td><td data-column="b">2</td>' in text
    assert '<table class="name"><caption>said</caption>' in text and text.count("<tr>") == 2


def test_a_part_without_content_is_not_there():
    assert section("a", "A", "") == ""
    assert section("a", "A", "<p>x</p>") == '<section id="a"><h2>A</h2><p>x</p></section>\n'


@pytest.mark.parametrize(
    "setting, text",
    [
        (None, "none"),
        (True, "true"),
        (0.05, "0.05"),
        (1e-05, "1e-05"),
        (14, "14"),
        ("quick", "quick"),
        ("/home/me/sums.py:Sums", "sums.py:Sums"),
        ("C:\\data\\mine\\", "mine"),
    ],
)
def test_a_setting_is_written_as_on_the_command_line_and_tells_no_place(setting, text):
    assert value_of(setting) == text


def test_the_settings_of_a_configuration():
    config = {"run": {"task": "/a/b.py:C", "nested": {}}, "sha256": "0", "start": None}
    assert flat(config) == {"run": {"task": "b.py:C"}}
