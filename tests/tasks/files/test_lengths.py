"""Texts that are too long: counted, named and refused, or cut at a word."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minippo.errors import InputError
from minippo.tasks.files.lengths import check_lengths, cut_end, cut_front
from minippo.tasks.files.read import Source, read_folder
from tests.tasks.files.folders import assert_whole, json_lines, pairs_folder

ADVICE = "pass --truncate to cut them at a word, or raise --completion_length and --prompt_length"


def lengths(path, truncate=False, prompt_length=10, completion_length=10):
    data = read_folder(path)
    return check_lengths(
        data, prompt_length=prompt_length, completion_length=completion_length, truncate=truncate
    )


def test_texts_that_fit_are_left_alone_and_the_eos_counts(tmp_path):
    # 10, 9 + 1 and 9 + 1 bytes
    path = pairs_folder(tmp_path / "d", [("0123456789", "ışık 1", "012345678")])
    data = read_folder(path)
    data = check_lengths(data, prompt_length=10, completion_length=10, truncate=False)
    assert data is check_lengths(data, prompt_length=10, completion_length=10, truncate=True)
    message = "2 of 3 texts are longer .*9 bytes at line 1, field chosen; room for 8 and the EOS"
    with pytest.raises(InputError, match=message):
        check_lengths(data, prompt_length=10, completion_length=9, truncate=False)


def test_texts_without_room_are_counted_once_and_the_longest_is_named(tmp_path):
    pairs = [
        ("q", "a", "b"),
        ("q", "x" * 612, "b"),
        ("q", "x" * 13, "b" * 14),
        ("p" * 11, "a", "b"),
    ]
    path = pairs_folder(tmp_path / "d", pairs)
    with pytest.raises(InputError) as caught:
        lengths(path)
    assert str(caught.value) == (
        "preferences.jsonl: 4 of 12 texts are longer than the context (longest: 612 bytes at line "
        "2, field chosen; "
        "room for 9 and the EOS); " + ADVICE
    )


def test_each_file_with_long_texts_is_named(tmp_path):
    path = pairs_folder(
        tmp_path / "d",
        demonstrations_jsonl=json_lines("demonstrations.jsonl", [("p", "c" * 99)]),
        prompts_jsonl="\n" + json_lines("prompts.jsonl", [("x" * 30,)]),
    )
    with pytest.raises(InputError) as caught:
        lengths(path, completion_length=20)
    assert str(caught.value) == (
        "demonstrations.jsonl: 1 of 2 texts is longer than the context (longest: 99 bytes at line "
        "1, field completion; "
        "room for 19 and the EOS); prompts.jsonl: 1 of 1 text is longer than the context "
        "(longest: 30 bytes at "
        "line 2, field prompt; room for 10); " + ADVICE
    )


@pytest.mark.parametrize(
    "text, room, end, front",
    [
        ("one two three", 13, "one two three", "one two three"),
        ("one two three", 12, "one two", "two three"),
        ("one two three", 9, "one two", "two three"),
        ("one two three", 7, "one two", "three"),
        ("one two three", 5, "one", "three"),
        ("one two three", 4, "one", "hree"),
        ("  one\n\n two  ", 6, "one", "two"),
        ("   one   ", 5, "one", "one"),
        ("unbroken", 4, "unbr", "oken"),
        ("ğğğğ", 5, "ğğ", "ğğ"),
        ("你好吗我很好", 7, "你好", "很好"),
        ("你好 吗", 8, "你好", "吗"),
        ("a 😀😀", 5, "a", "😀"),
    ],
)
def test_cuts_worked_by_hand(text, room, end, front):
    assert cut_end(text, room) == end
    assert cut_front(text, room) == front


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from("ab ğ你😀\n\u3000"), max_size=40).filter(str.strip),
    room=st.integers(4, 60),
)
def test_a_cut_keeps_whole_characters_and_whole_words(text, room):
    end, front = cut_end(text, room), cut_front(text, room)
    for piece in (end, front):
        assert piece.strip() and len(piece.encode()) <= room and piece in text
    if len(text.encode()) > room:
        words = text.split()
        assert end.split() == words[: len(end.split())] or (
            len(end.split()) == 1 and words[0].startswith(end)
        )
        assert front.split() == words[-len(front.split()) :] or (
            len(front.split()) == 1 and words[-1].endswith(front)
        )
        fits = " ".join(words).encode() if len(words) == 1 else b""
        assert not fits or len(fits) > room or end == words[0]


def words_of(text):
    """A tokenizer of words that GPT-2's kind is made like: a word after a blank is one token, a
    word at the beginning one for each of its letters."""
    first, *others = text.split(" ")
    return len(first) + len(others)


def odd(text):
    """A size that can shrink when a text grows: an even number of letters are read in twos."""
    return len(text) // 2 if len(text) % 2 == 0 else len(text)


@pytest.mark.parametrize(
    "text, room, end, front",
    [
        ("I like tea and milk", 5, "I like tea and milk", "I like tea and milk"),
        # " like tea and milk" has 4, but "like tea and milk" has 4 + 3 and "tea and milk" 3 + 2
        ("I like tea and milk", 4, "I like tea and", "and milk"),
        # "and milk" and "milk" have 4
        ("I like tea and milk", 3, "I like tea", "a and milk"),
        ("I like tea and milk", 2, "I like", "d milk"),
        ("crocodile", 4, "croc", "dile"),
    ],
)
def test_a_piece_is_measured_as_it_will_be_read(text, room, end, front):
    assert cut_end(text, room, words_of) == end
    assert cut_front(text, room, words_of) == front


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from("ab ğ你😀\n\u3000"), max_size=40).filter(str.strip),
    room=st.integers(0, 30),
    size=st.sampled_from([len, words_of, odd, lambda text: 2 + len(text.encode())]),
)
def test_no_tokenizer_makes_a_piece_too_long(text, room, size):
    for piece in (cut_end(text, room, size), cut_front(text, room, size)):
        assert piece == "" or (size(piece) <= room and piece in text)
    if size(text) <= room:
        assert cut_end(text, room, size) == cut_front(text, room, size) == text


def test_where_not_one_character_fits_the_flag_is_named(tmp_path):
    data = read_folder(pairs_folder(tmp_path / "d", [("q" * 20, "a", "b"), ("r", "a", "b")]))
    lengths = dict(prompt_length=10, completion_length=10, truncate=True)
    message = "'q{20}': not a single character of it fits into 10 tokens; raise --prompt_length"
    with pytest.raises(InputError, match=message):
        check_lengths(data, **lengths, size=lambda text: 20 * (text[0] == "q"))


def test_what_a_tokenizer_refuses_has_its_place(tmp_path):
    def size(text):
        if "</s>" in text:
            raise InputError("the text holds '</s>'")
        return len(text)

    data = read_folder(pairs_folder(tmp_path / "d", [("p", "a", "b"), ("p", "a </s>", "b")]))
    message = "preferences.jsonl, line 2, field chosen: the text holds '</s>'"
    with pytest.raises(InputError, match=message):
        check_lengths(data, prompt_length=9, completion_length=9, truncate=True, size=size)


def test_truncation_cuts_prompts_in_front_and_answers_at_the_end(tmp_path):
    pairs = [
        ("please tell me now", "it is rather late", "go away"),
        ("q", "same words here", "same words there"),
        (" me now", "a", "b"),
    ]
    data = lengths(
        pairs_folder(tmp_path / "d", pairs, corpus_txt="long " * 99),
        truncate=True,
        completion_length=12,
    )
    assert data.preferences == [("me now", "it is", "go away"), (" me now", "a", "b")]
    assert data.sources["preferences"] == [
        Source("preferences.jsonl", 1),
        Source("preferences.jsonl", 3),
    ]
    assert data.demonstrations == [("me now", "it is"), ("q", "same words"), (" me now", "a")]
    assert data.prompts == ["me now", "q"]
    assert data.corpus == ["long " * 99]
    assert data.notes[-2:] == [
        "preferences.jsonl: 4 of 9 texts cut at a word",
        "preferences.jsonl: 1 of 3 pairs dropped, their answers equal after the cut",
    ]
    assert_whole(data)
    assert data is check_lengths(data, prompt_length=10, completion_length=12, truncate=False)


def test_truncation_leaves_its_input_alone(tmp_path):
    path = pairs_folder(tmp_path / "d")
    data = read_folder(path)
    assert check_lengths(data, prompt_length=4, completion_length=5, truncate=True) != data
    assert data == read_folder(path)


def test_length_refusals(tmp_path):
    path = pairs_folder(tmp_path / "d", [("q", "same words here", "same words there")])
    with pytest.raises(
        InputError,
        match="after --truncate chosen and rejected are equal in the only pair; raise --comp",
    ):
        lengths(path, truncate=True, completion_length=12)
    with pytest.raises(InputError, match="--prompt_length must be at least 4, got 3"):
        lengths(path, prompt_length=3)
    with pytest.raises(InputError, match="--completion_length must be at least 5, got 4"):
        lengths(path, completion_length=4)
