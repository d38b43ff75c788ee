import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minippo.tokenizer import ByteTokenizer, WordTokenizer, tokenizer_from_dict, used_columns

SPECIAL = {WordTokenizer.PAD, WordTokenizer.BOS, WordTokenizer.EOS}
words = st.text(min_size=1, max_size=5).filter(
    lambda word: word.split() == [word] and word not in SPECIAL
)
word_lists = st.lists(words, min_size=1, max_size=8, unique=True)
TOKENIZERS = [ByteTokenizer(), WordTokenizer(["a", "baker", "bakes"])]


# round trips


@given(st.text())
def test_bytes_round_trip(text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert bytes(ids) == text.encode()


@given(word_lists, st.data())
def test_words_round_trip(known, data):
    tokenizer = WordTokenizer(known)
    text = " ".join(data.draw(st.lists(st.sampled_from(known))))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.token_text(i) for i in ids] == text.split()


@given(word_lists)
def test_each_word_has_an_id_of_its_own_below_the_vocabulary_size(known):
    tokenizer = WordTokenizer(known)
    ids = tokenizer.encode(" ".join(known)) + [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]
    assert sorted(ids) == list(range(tokenizer.vocab_size))


def test_words_by_hand():
    tokenizer = WordTokenizer(["a", "baker", "bakes"])
    assert tokenizer.vocab_size == 6
    assert tokenizer.encode("  a baker\nbakes a ") == [3, 4, 5, 3]
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""


def test_bytes_by_hand():
    tokenizer = ByteTokenizer()
    assert tokenizer.vocab_size == 259
    assert tokenizer.encode("aé") == [97, 0xC3, 0xA9]
    assert tokenizer.decode([97, 0xC3, 0xA9]) == "aé"


# pad, bos and eos


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_pad_bos_and_eos_are_three_ids_that_decoding_leaves_out(tokenizer):
    special = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]
    assert len(set(special)) == 3 and all(0 <= i < tokenizer.vocab_size for i in special)
    assert [tokenizer.token_text(i) for i in special] == ["<pad>", "<bos>", "<eos>"]
    text = "a baker bakes"
    ids = tokenizer.encode(text)
    assert not set(special) & set(ids)
    pad, bos, eos = special
    assert tokenizer.decode([pad, pad, bos, *ids[:1], pad, *ids[1:], eos, pad]) == text


# text that is not what it should be


@pytest.mark.parametrize(
    "ids, text",
    [
        ([0xFF], "\N{REPLACEMENT CHARACTER}"),
        ([97, 0xC3], "a\N{REPLACEMENT CHARACTER}"),  # a two-byte letter cut in half
        ([0xC3, 97], "\N{REPLACEMENT CHARACTER}a"),
        ([0xC3, 256, 0xA9], "é"),  # a pad does not cut it
    ],
)
def test_bytes_that_are_not_utf8_become_the_replacement_character(ids, text):
    assert ByteTokenizer().decode(ids) == text


@given(st.lists(st.integers(0, 258)))
def test_any_ids_below_the_vocabulary_size_decode(ids):
    tokenizer = ByteTokenizer()
    assert len(tokenizer.decode(ids)) <= sum(i < 256 for i in ids)
    assert all(tokenizer.token_text(i).isprintable() for i in ids)


def test_a_byte_in_a_figure_is_its_character_or_two_digits():
    texts = {33: "!", 97: "a", 126: "~", 10: "0a", 32: "20", 127: "7f", 0xC3: "c3"}
    assert {i: ByteTokenizer().token_text(i) for i in texts} == texts


def test_an_unknown_word_is_refused_by_name():
    tokenizer = WordTokenizer(["a", "baker"])
    for text in ("a candle", "A candle baker", "bak er"):
        unknown = next(word for word in text.split() if word not in ("a", "baker"))
        with pytest.raises(
            ValueError, match=f"the word '{unknown}' is not in this tokenizer's list"
        ):
            tokenizer.encode(text)


def test_a_word_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="words: a word is in the list twice"):
        WordTokenizer(["a", "baker", "a"])


# description


@given(word_lists)
def test_a_word_tokenizer_survives_json(known):
    tokenizer = WordTokenizer(known)
    copy = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert (
        type(copy) is WordTokenizer
        and copy.words == tokenizer.words
        and copy.vocab_size == tokenizer.vocab_size
    )
    assert copy.encode(" ".join(known)) == tokenizer.encode(" ".join(known))


def test_a_byte_tokenizer_survives_json():
    assert (
        type(tokenizer_from_dict(json.loads(json.dumps(ByteTokenizer().to_dict()))))
        is ByteTokenizer
    )


@pytest.mark.parametrize("kind", ["subword", "", None])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(
        ValueError, match=f"kind: a tokenizer is 'word', 'byte' or 'hf', got {kind!r}"
    ):
        tokenizer_from_dict({"kind": kind})
    with pytest.raises(ValueError, match="kind: a tokenizer is 'word', 'byte' or 'hf', got None"):
        tokenizer_from_dict({})


def test_used_columns_are_those_of_the_longest_row():
    left = torch.tensor([[False, True, True], [False, False, True]])
    right = torch.tensor([[[True, False, False, False]], [[True, True, True, False]]])
    assert used_columns(left, right) == [2, 3]
