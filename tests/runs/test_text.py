"""Texts for a screen: how wide they are, where they break, what is shown as an escape."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minippo.runs.text import clusters, columns, counted, padded, printable, said, wrapped

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # man, woman, girl, joined
PERSIAN = "می\u200cروم"  # two parts of a word, kept from joining
ANY = "ab é漢\u0301\u200d👍\U0001f3fd한\u1112\u1161\u11ab\u00a0\u3000"


@pytest.mark.parametrize(
    "text, width",
    [
        ("", 0),
        ("abc é", 5),
        ("e\u0301", 1),  # e and a combining acute
        ("漢字", 4),
        ("ｱｂＣ", 5),  # half, full and full width
        ("한국", 4),
        ("\u1112\u1161\u11ab", 2),  # a Korean syllable in three pieces
        ("👍", 2),
        ("👍\U0001f3fd", 2),  # with a skin tone
        (FAMILY, 2),
        ("\u2764", 1),
        ("\u2764\ufe0f", 2),  # the coloured heart
        ("\U0001f1f9\U0001f1f7", 2),  # a flag is two letters
        (PERSIAN, 5),
        ("a\u00a0b", 3),
        ("\u3000", 2),
        ("नमस्ते", 4),  # the virama and the vowel are written onto their letters
        ("\u0301", 0),
    ],
)
def test_columns_by_hand(text, width):
    assert columns(text) == width


def test_marks_and_joined_signs_stay_with_their_character():
    assert clusters(f"e\u0301{FAMILY}a👍\U0001f3fd") == ["e\u0301", FAMILY, "a", "👍\U0001f3fd"]


@given(st.text(st.sampled_from(ANY)), st.integers(2, 12))
def test_lines_stay_within_their_width_and_lose_nothing_but_blanks(text, width):
    lines = wrapped(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert {columns(padded(line, width)) for line in lines} == {width}


@pytest.mark.parametrize(
    "text, lines",
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("one  two   three ", ["one  two", "three"]),
        ("abcdefghijkl", ["abcdefgh", "ijkl"]),
        ("ab abcdefghijkl", ["ab abcde", "fghijkl"]),
        ("漢字漢字漢字", ["漢字漢字", "漢字"]),
        ("a漢字漢字", ["a漢字漢", "字"]),  # a wide one does not fit in one column
        ("a\u00a0b c\u00a0d e\u00a0f", ["a\u00a0b c\u00a0d", "e\u00a0f"]),
        ("e\u0301" * 9, ["e\u0301" * 8, "e\u0301"]),
        (FAMILY * 5, [FAMILY * 4, FAMILY]),
    ],
)
def test_lines_of_eight_columns_by_hand(text, lines):
    assert wrapped(text, 8) == lines


def test_joiners_and_all_blanks_are_shown_and_what_hides_or_moves_is_an_escape():
    shown = f"{FAMILY} {PERSIAN} a\u00a0b\u202fc\u3000d \u2764\ufe0f"
    assert printable(shown) == shown
    hidden = "\u200b\u200e\u202e\u2066\ufeff\u00ad\u2028\u2029\x85\x1b\r\n\t\udc80\ue000"
    assert printable(hidden).isascii() and "\\u202e" in printable(hidden)
    for c in map(chr, range(0x3000)):
        assert printable(c) != c or unicodedata.category(c)[0] not in "C" or c in "\u200c\u200d"


@pytest.mark.parametrize(
    "number, noun, text",
    [(0, "pair", "0 pairs"), (1, "pair", "1 pair"), (2, "pair", "2 pairs"), (1, "byte", "1 byte")],
)
def test_a_number_and_its_noun(number, noun, text):
    assert counted(number, noun) == text


def test_an_answer_without_anything_to_see_is_said():
    answers = ["", "  ", "\n", " a "]
    assert [said(text) for text in answers] == ["(nothing)", "(blanks)", "(blanks)", " a "]


def test_another_plural():
    assert [counted(n, "pass", "passes") for n in (1, 373)] == ["1 pass", "373 passes"]
