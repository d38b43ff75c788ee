"""Guesses: which bug, and in which line."""

import pytest

from minippo.classroom.museum.bugs import BUGS
from minippo.classroom.museum.exhibits import letters
from minippo.classroom.museum.hunt import (
    check,
    check_line,
    faulty_function,
    guess,
    names,
    wrong_lines,
)
from minippo.classroom.museum.planting import files_of, wrong_source
from minippo.errors import InputError

every_letter = pytest.mark.parametrize("letter", letters())


@every_letter
def test_only_the_right_name_is_right_and_the_others_say_what_one_would_see(letter):
    bug = letters()[letter]
    for other in BUGS:
        answer = guess(letter, other.name)
        assert answer.right == (other is bug)
        assert (bug.what in answer.message) == answer.right
        assert (other.curves in answer.message) != answer.right


@every_letter
def test_the_line_is_in_the_function_that_is_shown_and_no_other_is_wrong(letter):
    bug = letters()[letter]
    shown = [line.strip() for line in faulty_function(letter).splitlines()]
    source = wrong_source(bug, files_of(bug)[0]).splitlines()
    wrong = {source[number - 1].strip() for number in wrong_lines(bug)}
    assert wrong and wrong <= {*shown}
    for line in shown:
        answer = check_line(letter, f"   {line} ")
        assert answer.right == (line in wrong)
        assert ("+++ b/minippo/" in answer.message) == answer.right


def test_guesses_are_counted(capsys):
    A, B, *_ = letters().values()
    assert check({"A": A.name, "B": A.name}) == 1
    first, second, number = capsys.readouterr().out.splitlines()
    assert first.startswith("A: right. ") and second.startswith("B: no. ") and number == "1 of 2"
    assert B.what not in second


def test_another_seed_another_bug():
    assert guess("A", letters(5)["A"].name, seed=5).right


def test_wrong_letters_and_names_are_told():
    with pytest.raises(InputError, match="'Z': wanted one of A, B, C"):
        guess("Z", BUGS[0].name)
    with pytest.raises(InputError, match="no bug is called 'moth'"):
        guess("A", "moth")
    assert names() == sorted(names()) and len(names()) == 12
