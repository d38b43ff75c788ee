"""What is wrong with a file is one line with its place, whatever the file holds."""

import pytest

from minippo.tasks.files.messages import fault, json_type, shown, shown_list, shown_path


def test_the_place_is_as_exact_as_it_is_known():
    assert str(fault("a.jsonl", what="is empty")) == "a.jsonl: is empty"
    assert str(fault("a.jsonl", 3, what="is blank")) == "a.jsonl, line 3: is blank"
    assert (
        str(fault("a.jsonl", 3, "prompt", "is blank")) == "a.jsonl, line 3, field prompt: is blank"
    )


def test_what_is_shown_is_on_one_line_and_a_path_is_never_cut():
    assert shown("a\nb") == r"'a\nb'" and shown("x" * 41) == repr("x" * 40 + "...")
    assert shown_path("x" * 99) == repr("x" * 99)
    assert shown_list("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"


@pytest.mark.parametrize(
    "value, name",
    [(None, "null"), (True, "true"), ({}, "an object"), ([], "a list"), ("", "a string")],
)
def test_types_have_the_names_of_json(value, name):
    assert json_type(value) == name
