"""A rule that is called with care: numbers go through, everything else is one line."""

import math
from fractions import Fraction

import pytest

from minippo.errors import InputError, TrainingError
from minippo.tasks.own_file import Own
from minippo.tasks.own_rule import OwnRule, numbers_of, shown

OWN = Own("sums.py", __file__, "f", None, "digest")


def rule_that_gives(*values):
    """A rule that gives one after the other."""
    rest = list(values)
    return OwnRule(OWN, lambda prompt, response: rest.pop(0))


@pytest.mark.parametrize("value", [1, 1.0, True, Fraction(1), {"rule": 1}])
def test_a_number_is_a_number(value):
    assert rule_that_gives(value)("a", "b") == {"rule": 1.0}
    assert rule_that_gives(value).score("a", "b") == 1.0


def test_numbers_of_other_packages_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert rule_that_gives(numpy.float32(0.5)).score("a", "b") == 0.5


def test_several_numbers_keep_their_names_and_their_sum_counts():
    rule = rule_that_gives({"true": 2, "long": -0.5}, {"long": -0.5, "true": 2})
    assert rule("a", "b") == {"true": 2.0, "long": -0.5} and rule.score("a", "b") == 1.5


@pytest.mark.parametrize(
    "value, said",
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "None"),
        ("1", "a str"),
        ([1], "a list"),
        (1j, "a complex"),
        ({}, "an empty dict"),
        ({"a": math.nan}, "'a': nan"),
        ({"a": 1, "b": None}, "'b': None"),
        ({1: 1.0}, "a dict with the name 1"),
    ],
)
def test_everything_else_is_told_with_file_line_prompt_and_response(value, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        numbers_of(value)
    rule = rule_that_gives(value)
    line = rule.function.__code__.co_firstlineno
    with pytest.raises(TrainingError) as caught:
        rule("4 + 4 =", "no\n")
    assert str(caught.value) == (
        f"sums.py, line {line}: for the prompt '4 + 4 =' and the response 'no\\n' the rule gave "
        f"{said}; wanted a finite number, or a dict of them"
    )


def test_names_that_change_are_told():
    with pytest.raises(TrainingError, match=r"the rule gave \['b'\] where it gave 'a' before"):
        rule = rule_that_gives({"a": 1}, {"b": 1})
        rule("p", "r")
        rule("p", "r")


def test_what_it_raises_is_told_with_its_line_and_before_the_training_with_the_other_error():
    def raises(prompt, response):
        return {}[response]

    line = raises.__code__.co_firstlineno + 1
    for kind in (InputError, TrainingError):
        with pytest.raises(kind, match=f"^sums.py, line {line}: for the prompt 'p' and the respon"):
            OwnRule(OWN, raises)("p", "r", kind)
    with pytest.raises(InputError, match="rule raised TypeError: .*takes 1 positional argument"):
        OwnRule(OWN, lambda prompt: 1.0)("p", "r", InputError)


def test_an_exit_does_not_end_the_training_without_a_word():
    def leave(prompt, response):
        raise SystemExit(0)

    with pytest.raises(TrainingError, match="the rule raised SystemExit: 0"):
        OwnRule(OWN, leave)("p", "r")


def test_a_long_value_is_cut_and_a_broken_one_is_named():
    class Broken:
        def __repr__(self):
            raise ValueError

    assert shown("x" * 100) == "'" + "x" * 59 + "..." and shown(Broken()) == "a Broken"
